IF OBJECT_ID(N'sqlkmeans.train_labels', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_labels AS RETURN 0;');
GO
-- Gives every row of the caller's #sqlkmeans_prepared its cluster, in its #sqlkmeans_scored, and each
-- cluster its segment id, size and figures. A tie goes to the lowest segment id, as in the scoring
-- function; first to the lowest number of a cluster, with the highest beside it, for the ids are
-- found by what the clusters have.
ALTER PROCEDURE sqlkmeans.train_labels
    @run_id          bigint,
    @active          bigint,
    @last_segment_id int,
    @k               int,
    @features        int,
    @rows            bigint,
    @total_ss        float OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @squared nvarchar(max) = sqlkmeans.each_number(
        @features, N'(r.[sqlkmeans z{}] - c.z{}) * (r.[sqlkmeans z{}] - c.z{})', N' + ');
    DECLARE @sample nvarchar(max) = N'SELECT TOP (8000) n.cluster AS [sqlkmeans cluster]'
        + sqlkmeans.each_number(@features, N', r.[sqlkmeans o{}]', N'') + N'
FROM #sqlkmeans_sample AS r
' + sqlkmeans.nearest(@k, @features, N'r.[sqlkmeans z{}]', 0);
    DECLARE @relation nvarchar(max);
    DECLARE @statement nvarchar(max);
    DECLARE @problem nvarchar(max);

    -- The last pass has the squares about the mean where every row weighs the same.
    IF EXISTS (SELECT 1 FROM sqlkmeans.run AS r
               CROSS APPLY OPENJSON(r.definition) WITH (
                   sample_weight nvarchar(max) '$.sample_weight') AS j
               WHERE r.run_id = @run_id AND j.sample_weight IS NOT NULL)
        SET @relation = N'(SELECT COUNT_BIG(*) AS weight, SUM(' + sqlkmeans.each_number(@features,
                N'(r.[sqlkmeans z{}] - o.z{}) * (r.[sqlkmeans z{}] - o.z{})', N' + ') + N') AS squares, '
            + sqlkmeans.each_number(@features, N'AVG(r.[sqlkmeans z{}] - o.z{}) AS z{}', N', ') + N'
      FROM #sqlkmeans_prepared AS r
      INNER JOIN #sqlkmeans_centroid AS o ON o.cluster = 0)';
    ELSE
        SET @relation = N'(SELECT r.weight, r.squares, '
            + sqlkmeans.each_number(@features, N'r.z{} - o.z{} AS z{}', N', ') + N'
      FROM #sqlkmeans_moved AS r
      INNER JOIN #sqlkmeans_centroid AS o ON o.cluster = 0)';
    SET @statement = N'SELECT @total_ss = SUM(m.squares) - '
        + sqlkmeans.each_number(@features, N'SUM(m.weight * m.z{}) * SUM(m.weight * m.z{}) / SUM(m.weight)', N' - ')
        + N'
FROM ' + @relation + N' AS m;
INSERT INTO #sqlkmeans_point (cluster, position, scaled_value, value)
SELECT c.cluster, v.position, v.value, 0e0
FROM #sqlkmeans_centroid AS c
CROSS APPLY (VALUES ' + sqlkmeans.each_number(@features, N'({}, c.z{})', N', ') + N') AS v (position, value)
WHERE c.cluster > 0;
' + sqlkmeans.centroid_values(@k, @features) + N'INSERT INTO #sqlkmeans_scored WITH (TABLOCK)
    ([sqlkmeans row], [sqlkmeans previous], [sqlkmeans weight], [sqlkmeans cluster], [sqlkmeans other],
     [sqlkmeans distance]' + sqlkmeans.each_number(@features, N', [sqlkmeans o{}]', N'') + N')
SELECT r.[sqlkmeans row], r.[sqlkmeans previous], r.[sqlkmeans weight], n.cluster,
    CASE WHEN l.cluster <> n.cluster THEN l.cluster END, SQRT(' + @squared + N')'
        + sqlkmeans.each_number(@features, N', r.[sqlkmeans o{}]', N'') + N'
FROM #sqlkmeans_prepared AS r
' + sqlkmeans.nearest(@k, @features, N'r.[sqlkmeans z{}]', 0) + N'
' + sqlkmeans.nearest(@k, @features, N'r.[sqlkmeans z{}]', 1) + N'
INNER JOIN #sqlkmeans_centroid AS c ON c.cluster = n.cluster;';
    EXECUTE sys.sp_executesql @statement, N'@total_ss float OUTPUT', @total_ss = @total_ss OUTPUT;

    -- exp(x) - 1 to the last digits near 0 (Kahan; Higham, Accuracy and Stability, 2002, 1.14.1).
    UPDATE p
    SET value = CASE WHEN f.transform <> N'log1p' THEN t.value
                     WHEN EXP(t.value) = 1e0 THEN t.value
                     WHEN EXP(t.value) - 1e0 = -1e0 THEN -1e0
                     ELSE (EXP(t.value) - 1e0) * (t.value / LOG(EXP(t.value))) END
    FROM #sqlkmeans_point AS p
    INNER JOIN sqlkmeans.model_feature AS f ON f.run_id = @run_id AND f.position = p.position
    CROSS APPLY (SELECT p.scaled_value * (f.scale / f.weight) + f.center AS value) AS t;
    INSERT INTO #sqlkmeans_cluster (cluster, size, within_ss, inertia, weight, distance)
    SELECT c.cluster, 0, 0e0, 0e0, 0e0, 0e0
    FROM #sqlkmeans_centroid AS c
    WHERE c.cluster > 0;
    EXECUTE sqlkmeans.describe_scored
        @run_id = @run_id, @active = @active, @features = @features, @rows = @rows,
        @medians = 1, @sample = @sample;
    EXECUTE sqlkmeans.train_match
        @run_id = @run_id, @active = @active, @last_segment_id = @last_segment_id;

    IF EXISTS (SELECT 1 FROM #sqlkmeans_overlap AS o WHERE o.tied > 0)
    BEGIN
        SET @statement = N'UPDATE s
SET [sqlkmeans cluster] = n.cluster
FROM #sqlkmeans_scored AS s
INNER JOIN #sqlkmeans_prepared AS r ON r.[sqlkmeans row] = s.[sqlkmeans row]
CROSS APPLY (SELECT TOP (1) c.cluster, ' + @squared + N' AS squared
             FROM #sqlkmeans_centroid AS c
             INNER JOIN #sqlkmeans_cluster AS m ON m.cluster = c.cluster
             ORDER BY squared, m.segment_id) AS n
WHERE s.[sqlkmeans other] IS NOT NULL AND n.cluster <> s.[sqlkmeans cluster];';
        EXECUTE sys.sp_executesql @statement;
        EXECUTE sqlkmeans.describe_scored
            @run_id = @run_id, @active = @active, @features = @features, @rows = @rows,
            @medians = 1, @sample = @sample;
    END;
    IF EXISTS (SELECT 1 FROM #sqlkmeans_cluster AS c WHERE c.size = 0)
    BEGIN
        SET @problem = N'k = ' + CAST(@k AS nvarchar(10))
            + N': a segment stays empty; lower k or add features';
        EXECUTE sqlkmeans.raise_problems @number = 50003, @problems = @problem;
    END;
END;
GO
