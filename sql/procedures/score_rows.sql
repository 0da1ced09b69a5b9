IF OBJECT_ID(N'sqlkmeans.score_rows', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.score_rows AS RETURN 0;');
GO
-- Gives each row of the caller's #sqlkmeans_prepared that has all its features the nearest of the
-- clusters 1 to @k of its #sqlkmeans_point, in its #sqlkmeans_scored. Clusters are in the order of
-- their segment ids, because a tie goes to the lowest, as in the scoring function.
ALTER PROCEDURE sqlkmeans.score_rows
    @key      nvarchar(max),
    @k        int,
    @features int,
    @rows     bigint OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @carried nvarchar(max) = N', [sqlkmeans previous], [sqlkmeans before], [sqlkmeans flagged], [sqlkmeans weight]'
        + sqlkmeans.each_number(@features, N', [sqlkmeans o{}]', N'');
    DECLARE @statement nvarchar(max) = N'DELETE FROM #sqlkmeans_centroid;
INSERT INTO #sqlkmeans_centroid (cluster' + sqlkmeans.each_number(@features, N', z{}', N'') + N')
SELECT p.cluster' + sqlkmeans.each_number(
            @features, N', MAX(CASE p.position WHEN {} THEN p.scaled_value END)', N'') + N'
FROM #sqlkmeans_point AS p GROUP BY p.cluster;
' + sqlkmeans.centroid_values(@k, @features) + N'INSERT INTO #sqlkmeans_scored WITH (TABLOCK) ('
        + sqlkmeans.each_name(@key, N'{}', N', ') + @carried + N', [sqlkmeans cluster], [sqlkmeans distance])
SELECT ' + sqlkmeans.each_name(@key, N'r.{}', N', ') + REPLACE(@carried, N'[', N'r.[') + N', c.cluster, SQRT(' + sqlkmeans.each_number(
            @features, N'(r.[sqlkmeans z{}] - c.z{}) * (r.[sqlkmeans z{}] - c.z{})', N' + ') + N')
FROM #sqlkmeans_prepared AS r
' + sqlkmeans.nearest(@k, @features) + N'
INNER JOIN #sqlkmeans_centroid AS c ON c.cluster = n.cluster
WHERE ' + sqlkmeans.each_number(@features, N'r.[sqlkmeans z{}] IS NOT NULL', N' AND ') + N';
SET @rows = ROWCOUNT_BIG();';

    EXECUTE sys.sp_executesql @statement, N'@rows bigint OUTPUT', @rows = @rows OUTPUT;
END;
GO
