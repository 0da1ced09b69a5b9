IF OBJECT_ID(N'sqlkmeans.clipped', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.clipped (@value nvarchar(400), @low float, @high float)
        RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- The expression of a value that is pulled in to its limits, where it has some.
ALTER FUNCTION sqlkmeans.clipped
(
    @value nvarchar(400),
    @low   float,
    @high  float
)
RETURNS nvarchar(max)
AS
BEGIN
    IF @low IS NULL
        RETURN @value;

    RETURN N'CASE WHEN ' + @value + N' < ' + sqlkmeans.float_literal(@low) + N' THEN '
        + sqlkmeans.float_literal(@low) + N' WHEN ' + @value + N' > '
        + sqlkmeans.float_literal(@high) + N' THEN ' + sqlkmeans.float_literal(@high) + N' ELSE '
        + @value + N' END';
END;
GO
