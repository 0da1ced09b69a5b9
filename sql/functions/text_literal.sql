IF OBJECT_ID(N'sqlkmeans.text_literal', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.text_literal (@text nvarchar(max)) RETURNS nvarchar(max)
        AS BEGIN RETURN N''''; END;');
GO
-- A text as a statement writes it. By code, because some collations take other signs for a quote.
ALTER FUNCTION sqlkmeans.text_literal (@text nvarchar(max))
RETURNS nvarchar(max)
AS
BEGIN
    RETURN N'N''' + REPLACE(@text COLLATE Latin1_General_100_BIN2, N'''', N'''''') + N'''';
END;
GO
