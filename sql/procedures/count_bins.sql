IF OBJECT_ID(N'sqlkmeans.count_bins', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.count_bins AS RETURN 0;');
GO
-- Fills the caller's #sqlkmeans_bin anew from what describe_scored has left: how many of the rows are in
-- each bin of a run, 0 for the missing values of its column. The rows have the features of
-- @scored_run_id: columns that both have are counted, a category by its levels, wherever they stand.
ALTER PROCEDURE sqlkmeans.count_bins
    @run_id        bigint,
    @scored_run_id bigint
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DELETE FROM #sqlkmeans_bin;
    -- A bin but the last has an end, or a level; the last takes what is left.
    INSERT INTO #sqlkmeans_bin (position, bin, customers)
    SELECT c.position, b.bin, CASE
            WHEN b.bin = 0 THEN n.customers - k.known
            WHEN s.type = N'category' THEN COALESCE((
                SELECT CAST(ROUND(p.known * p.mean, 0) AS bigint)
                FROM sqlkmeans.model_feature AS f
                INNER JOIN #sqlkmeans_profile AS p ON p.cluster = 0 AND p.position = f.position
                WHERE f.run_id = @scored_run_id AND f.source_column = s.source_column
                  AND (f.level + N'.') COLLATE Latin1_General_100_BIN2 = b.label + N'.'), 0)
            ELSE COALESCE(e.customers - COALESCE(l.customers, 0), 0) END
    FROM (SELECT ROW_NUMBER() OVER (ORDER BY MIN(f.position)) AS position, f.source_column, f.type
          FROM sqlkmeans.model_feature AS f
          WHERE f.run_id = @run_id
          GROUP BY f.source_column, f.type) AS c
    INNER JOIN (SELECT MIN(f.position) AS position, f.source_column, f.type
                FROM sqlkmeans.model_feature AS f
                WHERE f.run_id = @scored_run_id
                GROUP BY f.source_column, f.type) AS s
        ON s.source_column = c.source_column
       AND CASE s.type WHEN N'category' THEN 1 ELSE 0 END
           = CASE c.type WHEN N'category' THEN 1 ELSE 0 END
    INNER JOIN sqlkmeans.feature_bin AS b
        ON b.run_id = @run_id AND b.position = c.position AND b.feature = c.source_column
    INNER JOIN #sqlkmeans_profile AS k ON k.cluster = 0 AND k.position = s.position
    CROSS JOIN (SELECT SUM(o.customers) AS customers FROM #sqlkmeans_overlap AS o) AS n
    LEFT JOIN #sqlkmeans_edge AS e ON e.position = s.position AND e.upper = b.upper
    LEFT JOIN sqlkmeans.feature_bin AS q
        ON q.run_id = @run_id AND q.position = b.position AND q.bin = b.bin - 1
    LEFT JOIN #sqlkmeans_edge AS l ON l.position = s.position AND l.upper = q.upper;

    UPDATE b
    SET customers = n.customers - o.customers
    FROM #sqlkmeans_bin AS b
    INNER JOIN (SELECT f.position, COALESCE(MAX(CASE f.label WHEN N'(other)' THEN f.bin END),
                    MAX(f.bin)) AS bin
                FROM sqlkmeans.feature_bin AS f
                WHERE f.run_id = @run_id
                GROUP BY f.position) AS t
        ON t.position = b.position AND t.bin = b.bin
    CROSS JOIN (SELECT SUM(a.customers) AS customers FROM #sqlkmeans_overlap AS a) AS n
    INNER JOIN (SELECT a.position, a.bin, SUM(d.customers) AS customers
                FROM #sqlkmeans_bin AS a
                INNER JOIN #sqlkmeans_bin AS d ON d.position = a.position AND d.bin <> a.bin
                GROUP BY a.position, a.bin) AS o
        ON o.position = b.position AND o.bin = b.bin;
END;
GO
