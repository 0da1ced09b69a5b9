IF OBJECT_ID(N'sqlkmeans.number_text', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.number_text (@value float) RETURNS nvarchar(60)
        AS BEGIN RETURN N''''; END;');
GO
-- A number as people read it: whole and with commas from 1,000 on, else three digits.
ALTER FUNCTION sqlkmeans.number_text (@value float)
RETURNS nvarchar(60)
AS
BEGIN
    DECLARE @text nvarchar(60);

    IF @value IS NULL
        RETURN N'unknown';
    IF @value = 0
        RETURN N'0';
    IF ABS(@value) >= 9e14 OR ABS(@value) < 1e-4
        RETURN LTRIM(RTRIM(CONVERT(nvarchar(60), @value)));
    IF ABS(@value) >= 1000
    BEGIN
        SET @text = CONVERT(nvarchar(60), CAST(ROUND(@value, 0) AS money), 1);
        RETURN LEFT(@text, LEN(@text) - 3);
    END;

    SET @text = CAST(CAST(ROUND(@value, 2 - CAST(FLOOR(LOG10(ABS(@value))) AS int))
        AS decimal(19, 8)) AS nvarchar(60));
    WHILE RIGHT(@text, 1) = N'0'
        SET @text = LEFT(@text, LEN(@text) - 1);
    IF RIGHT(@text, 1) = N'.'
        SET @text = LEFT(@text, LEN(@text) - 1);
    RETURN @text;
END;
GO
