IF OBJECT_ID(N'sqlkmeans.train_labels', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_labels AS RETURN 0;');
GO
-- From the centroids of the caller's #sqlkmeans_centroid and the sums of the last pass in its
-- #sqlkmeans_moved: #sqlkmeans_point has the centroids, in their own units too, #sqlkmeans_cluster the
-- segment id and the figures of each, #sqlkmeans_scored every row's label, and what describe_scored
-- leaves is of them.
ALTER PROCEDURE sqlkmeans.train_labels
    @run_id          bigint,
    @active          bigint,
    @last_segment_id int,
    @definition      nvarchar(max),
    @k               int,
    @features        int,
    @total_ss        float OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @key nvarchar(max) = JSON_QUERY(@definition, '$.key');
    DECLARE @sample nvarchar(max) = N'SELECT TOP (8000) n.cluster AS [sqlkmeans cluster]'
        + sqlkmeans.each_number(@features, N', r.[sqlkmeans o{}]', N'') + N'
FROM #sqlkmeans_sample AS r
' + sqlkmeans.nearest(@k, @features);
    DECLARE @relation nvarchar(max) = N'#sqlkmeans_moved';
    DECLARE @rows bigint;
    DECLARE @statement nvarchar(max);
    DECLARE @problem nvarchar(max);

    -- The last pass has the squares about the mean where every row weighs the same.
    IF EXISTS (SELECT 1 FROM OPENJSON(@definition) WITH (sample_weight nvarchar(max) '$.sample_weight') AS j
               WHERE j.sample_weight IS NOT NULL)
        SET @relation = N'(SELECT 1e0 AS weight, ' + sqlkmeans.each_number(@features,
                N'(r.[sqlkmeans z{}] - o.z{}) * (r.[sqlkmeans z{}] - o.z{})', N' + ') + N' AS squares, '
            + sqlkmeans.each_number(@features, N'r.[sqlkmeans z{}] - o.z{} AS z{}', N', ') + N'
      FROM #sqlkmeans_prepared AS r
      INNER JOIN #sqlkmeans_centroid AS o ON o.cluster = 0)';
    SET @statement = N'SELECT @total_ss = SUM(m.squares) - ('
        + sqlkmeans.each_number(@features, N'SUM(m.z{}) * SUM(m.z{})', N' + ') + N') / SUM(m.weight)
FROM ' + @relation + N' AS m;
INSERT INTO #sqlkmeans_point (cluster, position, scaled_value, value)
SELECT c.cluster, v.position, v.value, 0e0
FROM #sqlkmeans_centroid AS c
CROSS APPLY (VALUES ' + sqlkmeans.each_number(@features, N'({}, c.z{})', N', ') + N') AS v (position, value)
WHERE c.cluster > 0;';
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
    SELECT m.cluster, SUM(m.customers), 0e0, 0e0, 0e0, 0e0 FROM #sqlkmeans_moved AS m GROUP BY m.cluster;
    EXECUTE sqlkmeans.train_match
        @run_id = @run_id, @active = @active, @last_segment_id = @last_segment_id;
    UPDATE p
    SET cluster = n.place
    FROM #sqlkmeans_point AS p
    INNER JOIN (SELECT c.cluster, ROW_NUMBER() OVER (ORDER BY c.segment_id) AS place
                FROM #sqlkmeans_cluster AS c) AS n
        ON n.cluster = p.cluster;
    UPDATE c
    SET cluster = (SELECT COUNT(*) FROM #sqlkmeans_cluster AS o WHERE o.segment_id <= c.segment_id)
    FROM #sqlkmeans_cluster AS c;

    EXECUTE sqlkmeans.score_rows @key = @key, @k = @k, @features = @features, @rows = @rows OUTPUT;
    EXECUTE sqlkmeans.describe_scored
        @run_id = @run_id, @active = @active, @features = @features, @medians = 1,
        @sample = @sample;
    IF EXISTS (SELECT 1 FROM #sqlkmeans_cluster AS c WHERE c.size = 0)
       OR @k > (SELECT COUNT(*) FROM #sqlkmeans_cluster AS c)
    BEGIN
        SET @problem = N'k = ' + CAST(@k AS nvarchar(10))
            + N': a segment stays empty; lower k or add features';
        EXECUTE sqlkmeans.raise_problems @number = 50003, @problems = @problem;
    END;
END;
GO
