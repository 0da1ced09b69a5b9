IF OBJECT_ID(N'sqlkmeans.version', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.version () RETURNS nvarchar(64) AS BEGIN RETURN N''''; END;');
GO
-- The version of the package that installed these objects.
ALTER FUNCTION sqlkmeans.version ()
RETURNS nvarchar(64)
AS
BEGIN
    RETURN N'{{version}}';
END;
GO
