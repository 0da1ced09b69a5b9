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

    DECLARE @position int = 0;
    DECLARE @feature int;
    DECLARE @column nvarchar(128);
    DECLARE @type nvarchar(16);
    DECLARE @unit nvarchar(10);
    DECLARE @o nvarchar(40);
    DECLARE @statement nvarchar(max);

    CREATE TABLE #sqlkmeans_binned_column
    (
        position int           NOT NULL,
        feature  int           NOT NULL,
        name     nvarchar(128) COLLATE DATABASE_DEFAULT NOT NULL,
        type     nvarchar(16)  COLLATE DATABASE_DEFAULT NOT NULL
    );
    CREATE TABLE #sqlkmeans_decile (bin int NOT NULL, upper float NULL, label nvarchar(60) COLLATE DATABASE_DEFAULT NULL);
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

    WHILE 1 = 1
    BEGIN
        SET @column = NULL;
        SELECT TOP (1) @position = c.position, @feature = c.feature, @column = c.name,
            @unit = CASE c.type WHEN N'date' THEN N' days' ELSE N'' END
        FROM #sqlkmeans_binned_column AS c
        WHERE c.position > @position AND c.type <> N'category'
        ORDER BY c.position;
        IF @column IS NULL
            BREAK;

        DELETE FROM #sqlkmeans_decile;
        SET @o = N'[sqlkmeans o' + CAST(@feature AS nvarchar(10)) + N']';
        -- Deciles, to three digits of the range; only those that part the rows.
        SET @statement = N'INSERT INTO #sqlkmeans_decile (bin, upper)
SELECT ROW_NUMBER() OVER (ORDER BY e.upper), e.upper
FROM (SELECT DISTINCT ROUND(p.v, 2 - CAST(FLOOR(LOG10(NULLIF(p.greatest - p.least, 0e0))) AS int)) AS upper,
          p.greatest
      FROM (SELECT x.v, x.place, n.customers, n.least, n.greatest
            FROM (SELECT s.' + @o + N' AS v, ROW_NUMBER() OVER (ORDER BY s.' + @o + N') - 1 AS place
                  FROM #sqlkmeans_sample AS s
                  WHERE s.' + @o + N' IS NOT NULL) AS x
            CROSS JOIN (SELECT COUNT_BIG(*) AS customers, MIN(s.' + @o + N') AS least,
                            MAX(s.' + @o + N') AS greatest
                        FROM #sqlkmeans_sample AS s
                        WHERE s.' + @o + N' IS NOT NULL) AS n) AS p
      INNER JOIN (VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9)) AS d (number)
          ON p.place = d.number * (p.customers - 1) / 10
      WHERE p.greatest > p.least) AS e
WHERE e.upper < e.greatest;';
        EXECUTE sys.sp_executesql @statement;
        UPDATE #sqlkmeans_decile
        SET label = sqlkmeans.number_text(upper);
        INSERT INTO #sqlkmeans_decile (bin, upper, label) SELECT COUNT(*) + 1, NULL, NULL FROM #sqlkmeans_decile AS e;

        INSERT INTO sqlkmeans.feature_bin (run_id, position, bin, feature, label, upper, customers)
        SELECT @run_id, @position, e.bin, @column,
            CASE WHEN b.bin IS NULL AND e.upper IS NULL THEN N'known'
                 WHEN b.bin IS NULL THEN N'<= ' + e.label + @unit
                 WHEN e.upper IS NULL THEN N'> ' + b.label + @unit
                 ELSE b.label + N' to ' + e.label + @unit END, e.upper, 0
        FROM #sqlkmeans_decile AS e
        LEFT JOIN #sqlkmeans_decile AS b ON b.bin = e.bin - 1;
    END;
END;
GO
