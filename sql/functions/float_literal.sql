IF OBJECT_ID(N'sqlkmeans.float_literal', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.float_literal (@value float) RETURNS nvarchar(40)
        AS BEGIN RETURN N''''; END;');
GO
-- A number as a statement writes it, to its last bit.
ALTER FUNCTION sqlkmeans.float_literal (@value float)
RETURNS nvarchar(40)
AS
BEGIN
    RETURN LTRIM(RTRIM(CONVERT(nvarchar(40), @value, 3)));
END;
GO
