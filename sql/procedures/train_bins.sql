IF OBJECT_ID(N'sqlkmeans.train_bins', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_bins AS RETURN 0;');
GO
-- Cuts each number of the source into ten bins of equal size, by the caller's #sqlkmeans_sample, and a
-- category into its levels: the run's rows of feature_bin, without their counts.
ALTER PROCEDURE sqlkmeans.train_bins
    @run_id bigint
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @statement nvarchar(max);

    CREATE TABLE #sqlkmeans_binned_column
    (
        position int           NOT NULL,
        feature  int           NOT NULL,
        name     nvarchar(128) COLLATE DATABASE_DEFAULT NOT NULL,
        type     nvarchar(16)  COLLATE DATABASE_DEFAULT NOT NULL
    );
    CREATE TABLE #sqlkmeans_decile
    (
        feature  int   NOT NULL,
        value    float NOT NULL,
        least    float NOT NULL,
        greatest float NOT NULL
    );
    INSERT INTO #sqlkmeans_binned_column (position, feature, name, type)
    SELECT ROW_NUMBER() OVER (ORDER BY MIN(f.position)), MIN(f.position), f.source_column, f.type
    FROM sqlkmeans.model_feature AS f
    WHERE f.run_id = @run_id
    GROUP BY f.source_column, f.type;

    INSERT INTO sqlkmeans.feature_bin (run_id, position, bin, feature, label, upper, customers)
    SELECT @run_id, c.position, 0, c.name, N'missing', NULL, 0
    FROM #sqlkmeans_binned_column AS c;
    INSERT INTO sqlkmeans.feature_bin (run_id, position, bin, feature, label, upper, customers)
    SELECT @run_id, c.position, l.bin, c.name, COALESCE(l.level, N'(other)'), NULL, 0
    FROM #sqlkmeans_binned_column AS c
    INNER JOIN (SELECT f.source_column, f.level,
                    ROW_NUMBER() OVER (PARTITION BY f.source_column ORDER BY f.position) AS bin
                FROM sqlkmeans.model_feature AS f
                WHERE f.run_id = @run_id AND f.type = N'category') AS l
        ON l.source_column = c.name;
    -- What a later run has and this one has not.
    INSERT INTO sqlkmeans.feature_bin (run_id, position, bin, feature, label, upper, customers)
    SELECT @run_id, c.position, MAX(b.bin) + 1, c.name, N'(other)', NULL, 0
    FROM #sqlkmeans_binned_column AS c
    INNER JOIN sqlkmeans.feature_bin AS b ON b.run_id = @run_id AND b.position = c.position
    WHERE c.type = N'category'
      AND NOT EXISTS (SELECT 1 FROM sqlkmeans.model_feature AS f
                      WHERE f.run_id = @run_id AND f.source_column = c.name AND f.level IS NULL)
    GROUP BY c.position, c.name;

    SELECT @statement = N'INSERT INTO #sqlkmeans_decile (feature, value, least, greatest)
SELECT n.feature, p.value, n.least, n.greatest
FROM (SELECT v.feature, MIN(v.value) AS least, MAX(v.value) AS greatest, COUNT_BIG(v.value) AS customers' + r.rows_of + N'
      GROUP BY v.feature) AS n
CROSS JOIN (VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9)) AS d (number)
INNER JOIN (SELECT v.feature, v.value,
                ROW_NUMBER() OVER (PARTITION BY v.feature ORDER BY v.value) - 1 AS place' + r.rows_of + N'
            WHERE v.value IS NOT NULL) AS p
    ON p.feature = n.feature AND p.place = d.number * (n.customers - 1) / 10
WHERE n.greatest > n.least;'
    FROM (SELECT N'
            FROM #sqlkmeans_sample AS s
            CROSS APPLY (VALUES ' + sqlkmeans.each_number(MAX(c.feature), N'({}, s.[sqlkmeans o{}])', N', ')
              + N') AS v (feature, value)' AS rows_of
          FROM #sqlkmeans_binned_column AS c) AS r;
    EXECUTE sys.sp_executesql @statement;
    -- To three digits of the range; only those that part the rows.
    INSERT INTO sqlkmeans.feature_bin (run_id, position, bin, feature, label, upper, customers)
    SELECT @run_id, e.position, e.bin, e.name, CASE
            WHEN e.lower IS NULL AND e.upper IS NULL THEN N'known'
            WHEN e.lower IS NULL THEN N'<= ' + sqlkmeans.number_text(e.upper) + e.unit
            WHEN e.upper IS NULL THEN N'> ' + sqlkmeans.number_text(e.lower) + e.unit
            ELSE sqlkmeans.number_text(e.lower) + N' to ' + sqlkmeans.number_text(e.upper) + e.unit END,
        e.upper, 0
    FROM (SELECT c.position, c.name, d.upper, CASE c.type WHEN N'date' THEN N' days' ELSE N'' END AS unit,
              ROW_NUMBER() OVER (PARTITION BY c.position ORDER BY COALESCE(d.upper, 1.7e308)) AS bin,
              LAG(d.upper) OVER (PARTITION BY c.position ORDER BY COALESCE(d.upper, 1.7e308)) AS lower
          FROM #sqlkmeans_binned_column AS c
          INNER JOIN (SELECT DISTINCT a.feature, r.upper
                      FROM #sqlkmeans_decile AS a
                      CROSS APPLY (SELECT ROUND(a.value,
                          2 - CAST(FLOOR(LOG10(a.greatest - a.least)) AS int)) AS upper) AS r
                      WHERE r.upper < a.greatest
                      UNION ALL
                      SELECT b.feature, NULL FROM #sqlkmeans_binned_column AS b) AS d
              ON d.feature = c.feature
          WHERE c.type <> N'category') AS e;
END;
GO
