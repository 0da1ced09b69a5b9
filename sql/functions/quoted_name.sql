IF OBJECT_ID(N'sqlkmeans.quoted_name', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.quoted_name (@name nvarchar(1000), @suffix nvarchar(20))
        RETURNS nvarchar(1000) AS BEGIN RETURN N''''; END;');
GO
-- A name of one to three parts, each quoted; NULL if it is not such a name. One part alone is in
-- schema dbo, whoever asks. The suffix is added to the last part.
ALTER FUNCTION sqlkmeans.quoted_name
(
    @name   nvarchar(1000),
    @suffix nvarchar(20)
)
RETURNS nvarchar(1000)
AS
BEGIN
    IF PARSENAME(@name, 1) IS NULL OR PARSENAME(@name, 4) IS NOT NULL
        RETURN NULL;

    RETURN COALESCE(QUOTENAME(PARSENAME(@name, 3)) + N'.', N'')
        + QUOTENAME(COALESCE(PARSENAME(@name, 2), N'dbo'))
        + N'.' + QUOTENAME(PARSENAME(@name, 1) + @suffix);
END;
GO
