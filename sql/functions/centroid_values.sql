IF OBJECT_ID(N'sqlkmeans.centroid_values', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.centroid_values (@k int, @features int)
        RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- Statements that give @c0_1, @c0_2 … the coordinates of row 0 of #sqlkmeans_centroid and, where
-- sqlkmeans.nearest compares over them, @c1_1, @c1_2 … those of the others. Values of variables, so
-- that a text that is executed for each pass is compiled once.
ALTER FUNCTION sqlkmeans.centroid_values (@k int, @features int)
RETURNS nvarchar(max)
AS
BEGIN
    -- A sum of one value and zeros: MAX would drop NULLs, and warn of each (8153).
    DECLARE @names nvarchar(max) = sqlkmeans.each_number(@features, N'@c~_{} float', N', ');
    DECLARE @values nvarchar(max) = sqlkmeans.each_number(
        @features, N'@c~_{} = SUM(CASE c.cluster WHEN ~ THEN c.z{} ELSE 0e0 END)', N', ');
    DECLARE @last int = CASE sqlkmeans.compares_in_pairs(@k, @features) WHEN 1 THEN @k ELSE 0 END;

    RETURN N'DECLARE ' + REPLACE(@names, N'~', N'0')
        + sqlkmeans.each_number(@last, N', ' + REPLACE(@names, N'~', N'{}'), N'') + N';
SELECT ' + REPLACE(@values, N'~', N'0')
        + sqlkmeans.each_number(@last, N', ' + REPLACE(@values, N'~', N'{}'), N'') + N'
FROM #sqlkmeans_centroid AS c;
';
END;
GO
