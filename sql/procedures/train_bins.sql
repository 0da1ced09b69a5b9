IF OBJECT_ID(N'sqlkmeans.train_bins', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_bins AS RETURN 0;');
GO
-- Cuts each number of the caller's #sqlkmeans_column into ten bins of equal size, by its #sqlkmeans_sample,
-- and a category into its levels: the run's rows of feature_bin, without their counts.
ALTER PROCEDURE sqlkmeans.train_bins
    @run_id bigint
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @statement nvarchar(max);

    CREATE TABLE #sqlkmeans_decile
    (
        feature  int   NOT NULL,
        value    float NOT NULL,
        least    float NOT NULL,
        greatest float NOT NULL
    );
    -- Behind what is missing and the levels, what a later run has and this one has not, where it is no
    -- level itself.
    INSERT INTO sqlkmeans.feature_bin (run_id, position, bin, feature, label, upper, customers)
    SELECT @run_id, c.number, ROW_NUMBER() OVER (PARTITION BY c.number ORDER BY l.position) - 1, c.name,
        l.label, NULL, 0
    FROM #sqlkmeans_column AS c
    INNER JOIN (SELECT a.name, 0 AS position, N'missing' AS label FROM #sqlkmeans_column AS a
                UNION ALL
                SELECT f.source_column, f.position, COALESCE(f.level, N'(other)')
                FROM sqlkmeans.model_feature AS f
                WHERE f.run_id = @run_id AND f.type = N'category'
                UNION ALL
                SELECT f.source_column, MAX(f.position) + 1, N'(other)'
                FROM sqlkmeans.model_feature AS f
                WHERE f.run_id = @run_id AND f.type = N'category'
                GROUP BY f.source_column
                HAVING COUNT(f.level) = COUNT(*)) AS l
        ON l.name = c.name;
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
            CROSS APPLY (VALUES ' + sqlkmeans.each_number(MAX(f.position), N'({}, s.[sqlkmeans o{}])', N', ')
              + N') AS v (feature, value)' AS rows_of
          FROM sqlkmeans.model_feature AS f
          WHERE f.run_id = @run_id) AS r;
    EXECUTE sys.sp_executesql @statement;
    -- To three digits of the range; only those that part the rows.
    INSERT INTO sqlkmeans.feature_bin (run_id, position, bin, feature, label, upper, customers)
    SELECT @run_id, e.position, e.bin, e.name, CASE
            WHEN e.lower IS NULL AND e.upper IS NULL THEN N'known'
            WHEN e.lower IS NULL THEN N'<= ' + sqlkmeans.number_text(e.upper) + e.unit
            WHEN e.upper IS NULL THEN N'> ' + sqlkmeans.number_text(e.lower) + e.unit
            ELSE sqlkmeans.number_text(e.lower) + N' to ' + sqlkmeans.number_text(e.upper) + e.unit END,
        e.upper, 0
    FROM (SELECT c.number AS position, c.name, d.upper,
              CASE c.type WHEN N'date' THEN N' days' ELSE N'' END AS unit,
              ROW_NUMBER() OVER (PARTITION BY c.number ORDER BY COALESCE(d.upper, 1.7e308)) AS bin,
              LAG(d.upper) OVER (PARTITION BY c.number ORDER BY COALESCE(d.upper, 1.7e308)) AS lower
          FROM #sqlkmeans_column AS c
          INNER JOIN sqlkmeans.model_feature AS f
              ON f.run_id = @run_id AND f.source_column = c.name AND f.type <> N'category'
          INNER JOIN (SELECT DISTINCT a.feature, r.upper
                      FROM #sqlkmeans_decile AS a
                      CROSS APPLY (SELECT ROUND(a.value,
                          2 - CAST(FLOOR(LOG10(a.greatest - a.least)) AS int)) AS upper) AS r
                      WHERE r.upper < a.greatest
                      UNION ALL
                      SELECT b.position, NULL FROM sqlkmeans.model_feature AS b WHERE b.run_id = @run_id) AS d
              ON d.feature = f.position) AS e;
END;
GO
