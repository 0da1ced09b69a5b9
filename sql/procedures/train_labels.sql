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
    -- A cluster has the segment id of the earlier segment that it shares most customers with, as long as
    -- they are more than half of the smaller of the two, the largest pair first; then, among what is left,
    -- of that whose centroid and its own are each the other's nearest of all; what is left then is new.
    WHILE 1 = 1
    BEGIN
        UPDATE c
        SET segment_id = h.segment_id
        FROM #sqlkmeans_cluster AS c
        INNER JOIN (
            SELECT TOP (1) s.segment_id, s.cluster
            FROM (SELECT o.previous AS segment_id, o.cluster, SUM(o.customers) AS customers,
                      SUM(SUM(o.customers)) OVER (PARTITION BY o.previous) AS earlier,
                      SUM(SUM(o.customers)) OVER (PARTITION BY o.cluster) AS present
                  FROM #sqlkmeans_moved AS o
                  WHERE o.previous IN (SELECT e.segment_id FROM sqlkmeans.centroid AS e WHERE e.run_id = @active)
                  GROUP BY o.previous, o.cluster) AS s
            WHERE (2 * s.customers > s.earlier OR 2 * s.customers > s.present)
              AND NOT EXISTS (SELECT 1 FROM #sqlkmeans_cluster AS a
                              WHERE a.segment_id = s.segment_id
                                 OR (a.cluster = s.cluster AND a.segment_id IS NOT NULL))
            ORDER BY s.customers DESC, s.segment_id, s.cluster) AS h
            ON h.cluster = c.cluster;
        IF @@ROWCOUNT = 0
            BREAK;
    END;

    CREATE TABLE #sqlkmeans_apart (segment_id int NOT NULL, cluster int NOT NULL, squared float NOT NULL);
    -- The earlier centroids in the new scaled space, where the columns are the same. A level that
    -- had no feature has the share 0.
    IF NOT EXISTS (
        SELECT 1
        FROM (SELECT DISTINCT f.source_column, f.type FROM sqlkmeans.model_feature AS f
              WHERE f.run_id = @run_id) AS n
        FULL JOIN (SELECT DISTINCT f.source_column, f.type FROM sqlkmeans.model_feature AS f
                   WHERE f.run_id = @active) AS o
            ON o.source_column = n.source_column AND o.type = n.type
        WHERE n.type IS NULL OR o.type IS NULL)
    BEGIN
        INSERT INTO #sqlkmeans_apart (segment_id, cluster, squared)
        SELECT g.segment_id, g.cluster, SUM(g.difference * g.difference)
        FROM (SELECT e.segment_id, p.cluster, p.scaled_value - (
                  sqlkmeans.prepared_value(COALESCE(c.value, 0e0), NULL, NULL, f.transform) - f.center)
                  * f.weight / f.scale AS difference
              FROM (SELECT DISTINCT x.segment_id FROM sqlkmeans.centroid AS x
                    WHERE x.run_id = @active) AS e
              INNER JOIN sqlkmeans.model_feature AS f ON f.run_id = @run_id
              INNER JOIN #sqlkmeans_point AS p ON p.position = f.position
              LEFT JOIN sqlkmeans.centroid AS c
                  ON c.run_id = @active AND c.segment_id = e.segment_id
                 AND (c.feature + N'.') COLLATE Latin1_General_100_BIN2 = f.feature + N'.') AS g
        GROUP BY g.segment_id, g.cluster
        -- A column that has a logarithm now may have had a centre that has none.
        HAVING COUNT(g.difference) = COUNT(*);

        -- Of two as near, the first: an id is for one cluster, and an UPDATE takes one of them.
        UPDATE c
        SET segment_id = a.segment_id
        FROM #sqlkmeans_cluster AS c
        INNER JOIN (SELECT d.cluster, d.segment_id,
                        ROW_NUMBER() OVER (PARTITION BY d.cluster ORDER BY d.squared, d.segment_id) AS of_cluster,
                        ROW_NUMBER() OVER (PARTITION BY d.segment_id ORDER BY d.squared, d.cluster) AS of_segment
                    FROM #sqlkmeans_apart AS d) AS a
            ON a.cluster = c.cluster AND a.of_cluster = 1 AND a.of_segment = 1
        WHERE c.segment_id IS NULL
          AND NOT EXISTS (SELECT 1 FROM #sqlkmeans_cluster AS t WHERE t.segment_id = a.segment_id);
    END;

    -- Largest first.
    UPDATE c
    SET segment_id = @last_segment_id + n.place
    FROM #sqlkmeans_cluster AS c
    INNER JOIN (SELECT r.cluster, ROW_NUMBER() OVER (ORDER BY r.size DESC, r.cluster) AS place
                FROM #sqlkmeans_cluster AS r
                WHERE r.segment_id IS NULL) AS n
        ON n.cluster = c.cluster;

    UPDATE c
    SET centroid_shift = SQRT(a.squared)
    FROM #sqlkmeans_cluster AS c
    INNER JOIN #sqlkmeans_apart AS a ON a.cluster = c.cluster AND a.segment_id = c.segment_id;
    -- In the order of their segment ids.
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
    IF @k > (SELECT COUNT(*) FROM #sqlkmeans_cluster AS c WHERE c.size > 0)
    BEGIN
        SET @problem = N'k = ' + CAST(@k AS nvarchar(10))
            + N': a segment stays empty; lower k or add features';
        EXECUTE sqlkmeans.raise_problems @number = 50003, @problems = @problem;
    END;
END;
GO
