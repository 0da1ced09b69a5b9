IF OBJECT_ID(N'sqlkmeans.json_lines', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.json_lines (@lines nvarchar(max))
        RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- Lines, each with its end, as a JSON list of texts.
ALTER FUNCTION sqlkmeans.json_lines (@lines nvarchar(max))
RETURNS nvarchar(max)
AS
BEGIN
    DECLARE @list nvarchar(max) = N'';

    WHILE CHARINDEX(NCHAR(10), @lines) > 0
    BEGIN
        SET @list = @list + CASE WHEN @list = N'' THEN N'' ELSE N',' END
            + sqlkmeans.json_text(LEFT(@lines, CHARINDEX(NCHAR(10), @lines) - 1));
        SET @lines = SUBSTRING(@lines, CHARINDEX(NCHAR(10), @lines) + 1, LEN(@lines));
    END;

    RETURN N'[' + @list + N']';
END;
GO
