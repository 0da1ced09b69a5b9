IF OBJECT_ID(N'sqlkmeans.sums_text', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.sums_text (@rows nvarchar(128), @k int, @features int,
        @kept bit, @sign nvarchar(1)) RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- One aggregate over a table of rows, into #sqlkmeans_moved: the rows, weights and coordinates of each
-- nearest centroid of #sqlkmeans_centroid and earlier segment. Sums are about centroid 0, the mean of a
-- sample, so that they keep their digits far from 0. @sign = '-' takes off what was added before;
-- @kept = 1 is what the next passes go on from. Of the rows that starts are compared on, sums are
-- added in one order: which start wins would depend on it.
ALTER FUNCTION sqlkmeans.sums_text
(
    @rows     nvarchar(128),
    @k        int,
    @features int,
    @kept     bit,
    @sign     nvarchar(1)
)
RETURNS nvarchar(max)
AS
BEGIN
    RETURN N'INSERT INTO #sqlkmeans_moved (kept, cluster, previous, customers, weight, squares, '
        + sqlkmeans.each_number(@features, N'z{}', N', ') + N')
SELECT ' + CAST(@kept AS nvarchar(1)) + N', n.cluster, r.[sqlkmeans previous], ' + @sign + N'COUNT_BIG(*), '
        + @sign + N'SUM(r.[sqlkmeans weight]), ' + @sign + N'SUM(r.[sqlkmeans weight] * ('
        + sqlkmeans.each_number(@features,
            N'(r.[sqlkmeans z{}] - @c0_{}) * (r.[sqlkmeans z{}] - @c0_{})', N' + ') + N')),
    ' + sqlkmeans.each_number(@features,
            @sign + N'SUM(r.[sqlkmeans weight] * (r.[sqlkmeans z{}] - @c0_{}))', N', ') + N'
FROM ' + @rows + N' AS r
' + sqlkmeans.nearest(@k, @features) + N'
GROUP BY n.cluster, r.[sqlkmeans previous]' + CASE @rows WHEN N'#sqlkmeans_seed' THEN N'
OPTION (MAXDOP 1, KEEPFIXED PLAN)' ELSE N'' END + N';
';
END;
GO
