IF OBJECT_ID(N'sqlkmeans.json_text', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.json_text (@text nvarchar(max)) RETURNS nvarchar(max)
        AS BEGIN RETURN N''''; END;');
GO
-- A text as JSON writes it, quotes included; null for NULL. STRING_ESCAPE is not the same on every
-- server for letters outside ASCII.
ALTER FUNCTION sqlkmeans.json_text (@text nvarchar(max))
RETURNS nvarchar(max)
AS
BEGIN
    DECLARE @result nvarchar(max) = N'';
    DECLARE @position int = 0;
    DECLARE @letter nvarchar(2);
    DECLARE @code int;

    IF @text IS NULL
        RETURN N'null';

    -- A letter at a time and by code: what REPLACE takes for equal depends on the collation.
    WHILE @position < LEN(@text + N'.') - 1
    BEGIN
        SET @position = @position + 1;
        SET @letter = SUBSTRING(@text, @position, 1);
        SET @code = UNICODE(@letter);
        SET @result = @result + CASE
            WHEN @code IN (34, 92) THEN N'\' + @letter
            WHEN @code < 32 THEN N'\u00' + CASE WHEN @code > 15 THEN N'1' ELSE N'0' END
                + SUBSTRING(N'0123456789abcdef', @code % 16 + 1, 1)
            ELSE @letter
        END;
    END;

    RETURN N'"' + @result + N'"';
END;
GO
