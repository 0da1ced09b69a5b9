IF OBJECT_ID(N'sqlkmeans.relation', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.relation (@source nvarchar(max)) RETURNS nvarchar(max)
        AS BEGIN RETURN N''''; END;');
GO
-- What stands after FROM for a source: a quoted name, or a SELECT in parentheses on lines of its
-- own, so that a comment at its end ends with it. NULL for what is neither.
ALTER FUNCTION sqlkmeans.relation (@source nvarchar(max))
RETURNS nvarchar(max)
AS
BEGIN
    DECLARE @text nvarchar(max) = @source;
    DECLARE @blank nvarchar(10) = N' ' + NCHAR(9) + NCHAR(10) + NCHAR(13);

    -- Comments may stand before the SELECT.
    WHILE 1 = 1
    BEGIN
        WHILE LEN(@text) > 0 AND CHARINDEX(LEFT(@text, 1), @blank) > 0
            SET @text = SUBSTRING(@text, 2, LEN(@text));

        IF LEFT(@text, 2) = N'--' AND CHARINDEX(NCHAR(10), @text) > 0
            SET @text = SUBSTRING(@text, CHARINDEX(NCHAR(10), @text) + 1, LEN(@text));
        ELSE IF LEFT(@text, 2) = N'/*' AND CHARINDEX(N'*/', @text) > 0
            SET @text = SUBSTRING(@text, CHARINDEX(N'*/', @text) + 2, LEN(@text));
        ELSE
            BREAK;
    END;

    IF LOWER(LEFT(@text, 6)) = N'select'
       AND SUBSTRING(@text, 7, 1) NOT LIKE N'[a-zA-Z0-9_@#$.]'
        RETURN N'(' + NCHAR(10) + @text + NCHAR(10) + N') AS s';

    RETURN sqlkmeans.quoted_name(@text, N'') + N' AS s';
END;
GO
