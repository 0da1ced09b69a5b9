IF OBJECT_ID(N'sqlkmeans.quantiles', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.quantiles (@list nvarchar(max)) RETURNS nvarchar(max)
        AS BEGIN RETURN N''''; END;');
GO
-- A JSON list of two quantiles, the lower first; NULL for what is not one.
ALTER FUNCTION sqlkmeans.quantiles (@list nvarchar(max))
RETURNS nvarchar(max)
AS
BEGIN
    DECLARE @numbers int;
    DECLARE @others int;
    DECLARE @low nvarchar(100);
    DECLARE @high nvarchar(100);

    IF @list IS NULL OR LEFT(LTRIM(@list), 1) <> N'[' OR ISJSON(@list) = 0
        RETURN NULL;

    SELECT @numbers = COUNT(CASE WHEN j.[type] = 2 THEN 1 END),
        @others = COUNT(CASE WHEN j.[type] <> 2 THEN 1 END),
        @low = MAX(CASE WHEN j.[key] = N'0' THEN LEFT(j.[value], 100) END),
        @high = MAX(CASE WHEN j.[key] = N'1' THEN LEFT(j.[value], 100) END)
    FROM OPENJSON(@list) AS j;

    IF @numbers <> 2 OR @others <> 0 OR TRY_CAST(@low AS float) < 0
       OR TRY_CAST(@high AS float) > 1 OR TRY_CAST(@low AS float) >= TRY_CAST(@high AS float)
        RETURN NULL;

    RETURN N'[' + @low + N',' + @high + N']';
END;
GO
