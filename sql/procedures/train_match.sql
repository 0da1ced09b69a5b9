IF OBJECT_ID(N'sqlkmeans.train_match', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_match AS RETURN 0;');
GO
-- Gives each cluster of the caller's #sqlkmeans_cluster its segment id, by what of earlier segments is
-- in its #sqlkmeans_moved and by its #sqlkmeans_point. The pair that shares most customers comes first,
-- as long as it shares more than half of the smaller of the two; then, among what is left, a pair in
-- which each centroid is the other's nearest of all; what is left then is new.
ALTER PROCEDURE sqlkmeans.train_match
    @run_id          bigint,
    @active          bigint,
    @last_segment_id int
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @segment_id int;
    DECLARE @cluster int;

    CREATE TABLE #sqlkmeans_shared
    (
        segment_id int    NOT NULL,
        cluster    int    NOT NULL,
        customers  bigint NOT NULL
    );
    CREATE TABLE #sqlkmeans_apart (segment_id int NOT NULL, cluster int NOT NULL, squared float NOT NULL);

    INSERT INTO #sqlkmeans_shared (segment_id, cluster, customers)
    SELECT o.previous, o.cluster, SUM(o.customers)
    FROM #sqlkmeans_moved AS o
    INNER JOIN (SELECT DISTINCT c.segment_id FROM sqlkmeans.centroid AS c WHERE c.run_id = @active)
        AS p ON p.segment_id = o.previous
    GROUP BY o.previous, o.cluster
    HAVING SUM(o.customers) > 0;

    WHILE 1 = 1
    BEGIN
        SET @segment_id = NULL;
        SELECT TOP (1) @segment_id = h.segment_id, @cluster = h.cluster
        FROM #sqlkmeans_shared AS h
        INNER JOIN (SELECT a.segment_id, SUM(a.customers) AS customers
                    FROM #sqlkmeans_shared AS a GROUP BY a.segment_id) AS o
            ON o.segment_id = h.segment_id
        INNER JOIN (SELECT b.cluster, SUM(b.customers) AS customers
                    FROM #sqlkmeans_shared AS b GROUP BY b.cluster) AS n
            ON n.cluster = h.cluster
        WHERE 2 * h.customers > CASE WHEN o.customers < n.customers THEN o.customers
                                     ELSE n.customers END
          AND NOT EXISTS (SELECT 1 FROM #sqlkmeans_cluster AS c
                          WHERE c.segment_id = h.segment_id
                             OR (c.cluster = h.cluster AND c.segment_id IS NOT NULL))
        ORDER BY h.customers DESC, h.segment_id, h.cluster;
        IF @segment_id IS NULL
            BREAK;
        UPDATE #sqlkmeans_cluster SET segment_id = @segment_id WHERE cluster = @cluster;
    END;

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
        INNER JOIN #sqlkmeans_apart AS a ON a.cluster = c.cluster
        WHERE c.segment_id IS NULL
          AND NOT EXISTS (SELECT 1 FROM #sqlkmeans_cluster AS t WHERE t.segment_id = a.segment_id)
          AND NOT EXISTS (SELECT 1 FROM #sqlkmeans_apart AS b
                          WHERE b.cluster = a.cluster
                            AND (b.squared < a.squared
                                 OR (b.squared = a.squared AND b.segment_id < a.segment_id)))
          AND NOT EXISTS (SELECT 1 FROM #sqlkmeans_apart AS b
                          WHERE b.segment_id = a.segment_id
                            AND (b.squared < a.squared
                                 OR (b.squared = a.squared AND b.cluster < a.cluster)));
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
END;
GO
