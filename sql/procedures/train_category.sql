IF OBJECT_ID(N'sqlkmeans.train_category', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_category AS RETURN 0;');
GO
-- Learns the levels of a category, column @number of the caller's #sqlkmeans_input: a row of
-- model_feature for each that is frequent enough, most frequent first, and one for the rest. They share
-- a scale, so that a category weighs as much as one number. Or says in #sqlkmeans_column why not.
ALTER PROCEDURE sqlkmeans.train_category
    @run_id  bigint,
    @number  int,
    @whole   nvarchar(max),
    @scaling nvarchar(16),
    @missing nvarchar(16)
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @statement nvarchar(max);
    DECLARE @min_frequency float = sqlkmeans.shared_number(N'min_frequency');
    DECLARE @max_categories int = sqlkmeans.shared_number(N'max_categories');
    DECLARE @levels bigint;
    DECLARE @rows bigint;
    DECLARE @total float;
    DECLARE @kept int;
    DECLARE @lacking float;
    DECLARE @problem nvarchar(max);

    -- With a full stop behind, blanks at the end count too. Apart are levels that cannot have a
    -- feature: longer than 100 characters, or called as the rest is, which they join.
    CREATE TABLE #sqlkmeans_level
    (
        level     nvarchar(102) COLLATE Latin1_General_100_BIN2 NULL,
        customers bigint        NOT NULL,
        total     float         NOT NULL,
        apart     bit           NOT NULL,
        place     int           NOT NULL
    );
    SET @statement = N'INSERT INTO #sqlkmeans_level (level, customers, total, apart, place)
SELECT g.level, g.customers, g.total, g.apart,
    ROW_NUMBER() OVER (ORDER BY g.apart, CASE WHEN g.level IS NULL THEN 1 ELSE 0 END, g.total DESC, g.level)
FROM (SELECT x.level, COUNT_BIG(*) AS customers, ROUND(SUM(x.weight), 9) AS total,
          CASE WHEN x.level IS NULL OR LEN(x.level) > 101 OR x.level = N''(other).'' THEN 1 ELSE 0 END
              AS apart
      FROM (SELECT (i.[sqlkmeans f' + CAST(@number AS nvarchar(10)) + N'] + N''.'') COLLATE Latin1_General_100_BIN2 AS level,
                i.[sqlkmeans weight] AS weight
            FROM #sqlkmeans_input AS i
            WHERE i.[sqlkmeans weight] > 0e0' + @whole + N') AS x
      GROUP BY x.level) AS g;';
    EXECUTE sys.sp_executesql @statement;
    SELECT @lacking = CASE WHEN @missing IN (N'mean', N'median') THEN COALESCE(SUM(l.total), 0e0) ELSE 0e0 END
    FROM #sqlkmeans_level AS l
    WHERE l.level IS NULL;
    DELETE FROM #sqlkmeans_level WHERE level IS NULL;
    SELECT @levels = COUNT_BIG(*), @rows = SUM(l.customers), @total = SUM(l.total) FROM #sqlkmeans_level AS l;
    SELECT @kept = COUNT(*)
    FROM #sqlkmeans_level AS l
    INNER JOIN #sqlkmeans_column AS c ON c.number = @number
    WHERE l.apart = 0
      AND l.total >= COALESCE(CAST(JSON_VALUE(c.feature, '$.min_frequency') AS float), @min_frequency) * @total
      AND l.place <= COALESCE(CAST(JSON_VALUE(c.feature, '$.max_categories') AS int), @max_categories);

    SET @problem = CASE
        WHEN @levels = 0 THEN N'every value is NULL, so there is nothing to cluster by'
        WHEN @levels = 1 THEN N'constant in all ' + CAST(@rows AS nvarchar(20))
            + N' rows, so it separates nobody; remove it from features'
        WHEN @rows >= 100 AND @levels > 0.5 * @rows THEN N'like a key ('
            + CAST(@levels AS nvarchar(20)) + N' levels in ' + CAST(@rows AS nvarchar(20))
            + N' rows), so it identifies and does not group; remove it from features, or group it '
            + N'in a SELECT'
        WHEN @kept = 0 THEN N'none of its ' + CAST(@levels AS nvarchar(20))
            + N' levels has a share of min_frequency or more and at most 100 characters; lower it, '
            + N'shorten them in a SELECT, or remove the column from features'
    END;
    IF @problem IS NOT NULL
    BEGIN
        UPDATE #sqlkmeans_column
        SET problem = problem + name + N': ' + @problem + NCHAR(10)
        WHERE number = @number;
        RETURN 0;
    END;

    -- What is too rare, or has no name, are the others, as one more level. A missing value is filled in
    -- with the most frequent level.
    SET @total = @total + @lacking;
    INSERT INTO sqlkmeans.model_feature
        (run_id, position, feature, transform, weight, center, scale, fill, source_column, type,
         level)
    SELECT @run_id,
        s.place + (SELECT COALESCE(MAX(f.position), 0) FROM sqlkmeans.model_feature AS f WHERE f.run_id = @run_id),
        c.name + N' = ' + COALESCE(s.level, N'(other)') COLLATE DATABASE_DEFAULT, N'none', c.weight,
        CASE WHEN @scaling IN (N'standard', N'robust') THEN s.share ELSE 0e0 END,
        CASE @scaling WHEN N'minmax' THEN SQRT(2e0) WHEN N'none' THEN 1e0
                      ELSE SQRT(SUM(s.share * (1e0 - s.share)) OVER ()) END,
        CASE WHEN @missing IN (N'mean', N'median') THEN CASE s.place WHEN 1 THEN 1e0 ELSE 0e0 END END,
        c.name, N'category', s.level
    FROM #sqlkmeans_column AS c
    CROSS JOIN (SELECT k.place, MAX(k.level) AS level, SUM(k.total) / @total AS share
                FROM (SELECT CASE WHEN l.place <= @kept THEN l.place ELSE @kept + 1 END AS place,
                          CASE WHEN l.place <= @kept THEN LEFT(l.level, LEN(l.level) - 1) END AS level,
                          l.total + CASE l.place WHEN 1 THEN @lacking ELSE 0e0 END AS total
                      FROM #sqlkmeans_level AS l) AS k
                GROUP BY k.place) AS s
    WHERE c.number = @number;
END;
GO
