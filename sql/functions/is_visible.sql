IF OBJECT_ID(N'sqlkmeans.is_visible', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.is_visible (@name nvarchar(400)) RETURNS bit
        AS BEGIN RETURN 0; END;');
GO
-- Whether a name has no control or format character, which nobody sees and which a terminal obeys.
-- By code, because ranges of characters are not those of every collation.
ALTER FUNCTION sqlkmeans.is_visible (@name nvarchar(400))
RETURNS bit
AS
BEGIN
    DECLARE @position int = 0;
    DECLARE @code int;

    WHILE @position < LEN(@name + N'.') - 1
    BEGIN
        SET @position = @position + 1;
        SET @code = UNICODE(SUBSTRING(@name, @position, 1));
        IF @code < 32 OR @code BETWEEN 127 AND 159 OR @code = 173 OR @code BETWEEN 8203 AND 8207
           OR @code BETWEEN 8232 AND 8238 OR @code BETWEEN 8288 AND 8303 OR @code = 65279
            RETURN 0;
    END;

    RETURN 1;
END;
GO
