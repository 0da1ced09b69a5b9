IF OBJECT_ID(N'sqlkmeans.is_plain_name', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.is_plain_name (@name nvarchar(128)) RETURNS bit
        AS BEGIN RETURN 0; END;');
GO
-- Whether a name is a letter or underscore, then letters, digits and underscores, all of ASCII.
-- By code, because a range such as a-z holds other letters too in most collations.
ALTER FUNCTION sqlkmeans.is_plain_name (@name nvarchar(128))
RETURNS bit
AS
BEGIN
    DECLARE @position int = 0;
    DECLARE @code int;

    IF COALESCE(@name, N'') = N''
        RETURN 0;

    WHILE @position < LEN(@name + N'.') - 1
    BEGIN
        SET @position = @position + 1;
        SET @code = UNICODE(SUBSTRING(@name, @position, 1));
        IF NOT (@code BETWEEN 65 AND 90 OR @code BETWEEN 97 AND 122 OR @code = 95
                OR (@code BETWEEN 48 AND 57 AND @position > 1))
            RETURN 0;
    END;

    RETURN 1;
END;
GO
