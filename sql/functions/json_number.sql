IF OBJECT_ID(N'sqlkmeans.json_number', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.json_number (@text nvarchar(100)) RETURNS nvarchar(100)
        AS BEGIN RETURN N''''; END;');
GO
-- A number as JSON writes it: as it came where that is JSON, which .5 and +2 are not. NULL for what
-- is no number.
ALTER FUNCTION sqlkmeans.json_number (@text nvarchar(100))
RETURNS nvarchar(100)
AS
BEGIN
    IF COALESCE(LTRIM(@text), N'') = N'' OR TRY_CAST(@text AS float) IS NULL
        RETURN NULL;
    IF ISJSON(N'[' + @text + N']') = 1
        RETURN @text;
    RETURN LTRIM(RTRIM(CONVERT(nvarchar(40), CAST(@text AS float), 3)));
END;
GO
