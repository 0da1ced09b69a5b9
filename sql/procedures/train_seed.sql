IF OBJECT_ID(N'sqlkmeans.train_seed', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_seed AS RETURN 0;');
GO
-- Finds where the passes over all rows start: draws the caller's #sqlkmeans_sample from its
-- #sqlkmeans_prepared, and leaves in its #sqlkmeans_centroid, behind the mean as row 0, the best of
-- n_init starts on up to 500 k rows of it, carried to its end there (Bradley and Fayyad, 1998). A start
-- is greedy k-means++ (Arthur and Vassilvitskii, 2007), the best of a few candidates each time; a
-- candidate is drawn in proportion to its squared distance from the centroids so far. @weighing rows
-- have a weight above 0. #sqlkmeans_sample, #sqlkmeans_border and #sqlkmeans_moved get their columns here.
ALTER PROCEDURE sqlkmeans.train_seed
    @run_id     bigint,
    @definition nvarchar(max),
    @k          int,
    @features   int,
    @weighing   bigint,
    @threshold  float OUTPUT,
    @n_iter     int   OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @z nvarchar(max) = sqlkmeans.each_number(@features, N'z{}', N', ');
    DECLARE @kept_z nvarchar(max) = sqlkmeans.each_number(@features, N'[sqlkmeans z{}]', N', ');
    DECLARE @kept nvarchar(max) = @kept_z
        + sqlkmeans.each_number(@features, N', [sqlkmeans o{}]', N'');
    DECLARE @squared nvarchar(max) = sqlkmeans.each_number(
        @features, N'(s.[sqlkmeans z{}] - c.z{}) * (s.[sqlkmeans z{}] - c.z{})', N' + ');
    DECLARE @n_init int = CAST(JSON_VALUE(@definition, '$.n_init') AS int);
    DECLARE @seed bigint = CAST(JSON_VALUE(@definition, '$.seed') AS bigint);
    DECLARE @seed_rows int = CASE WHEN @k > 4 THEN 500 * @k ELSE 2000 END;
    DECLARE @sample_rows float = sqlkmeans.shared_number(N'bin_rows');
    DECLARE @share float;
    DECLARE @most int = sqlkmeans.shared_number(N'max_iter');
    DECLARE @differing int;
    DECLARE @statement nvarchar(max);
    DECLARE @problem nvarchar(max);

    CREATE TABLE #sqlkmeans_seed
    (
        [sqlkmeans row]      int   NOT NULL,
        [sqlkmeans previous] int   NULL,
        [sqlkmeans weight]   float NOT NULL,
        closest              float NULL
    );
    CREATE TABLE #sqlkmeans_draw (number float NOT NULL);
    SET @statement = sqlkmeans.each_number(@features,
        N'ALTER TABLE #sqlkmeans_seed ADD [sqlkmeans z{}] float NULL; '
        + N'ALTER TABLE #sqlkmeans_sample ADD [sqlkmeans o{}] float NULL; '
        + N'ALTER TABLE #sqlkmeans_sample ADD [sqlkmeans z{}] float NULL; '
        + N'ALTER TABLE #sqlkmeans_border ADD [sqlkmeans z{}] float NULL; '
        + N'ALTER TABLE #sqlkmeans_moved ADD z{} float NULL;', N' ');
    EXECUTE sys.sp_executesql @statement;
    EXECUTE sqlkmeans.store_in_columns @table = N'#sqlkmeans_seed';
    EXECUTE sqlkmeans.store_in_columns @table = N'#sqlkmeans_border';

    -- Which rows are drawn depends on their order by key and on the seed alone. The fifth power modulo
    -- a prime for which it takes no value twice puts the numbers of rows in another order; only what is
    -- below a share of it is sorted. Enough that weigh something for the seeds, and for the ends of
    -- bins. Rows that repeat often can crowd out the rare ones: k that differ are always in.
    IF @sample_rows < @seed_rows
        SET @sample_rows = @seed_rows;
    SET @share = (@sample_rows + 6e0 * SQRT(@sample_rows) + 10e0) / @weighing;
    SET @statement = N'INSERT INTO #sqlkmeans_sample ([sqlkmeans row], [sqlkmeans weight], place, ' + @kept + N')
SELECT h.[sqlkmeans row], h.[sqlkmeans weight], ROW_NUMBER() OVER (ORDER BY
    CASE WHEN h.[sqlkmeans weight] > 0e0 THEN 0 ELSE 1 END, h.[sqlkmeans hash]), ' + @kept + N'
FROM (SELECT r.*, f.fourth * n.number % 2147483647 AS [sqlkmeans hash]
      FROM #sqlkmeans_prepared AS r
      CROSS APPLY (SELECT (r.[sqlkmeans row] + (@seed + 1) * 48271) % 2147483647 AS number) AS n
      CROSS APPLY (SELECT n.number * n.number % 2147483647 AS square) AS s
      CROSS APPLY (SELECT s.square * s.square % 2147483647 AS fourth) AS f) AS h
WHERE @share >= 1e0 OR h.[sqlkmeans hash] < @share * 2147483647e0;
INSERT INTO #sqlkmeans_seed ([sqlkmeans row], [sqlkmeans weight], ' + @kept_z + N')
SELECT [sqlkmeans row], [sqlkmeans weight], ' + @kept_z + N'
FROM #sqlkmeans_sample
WHERE [sqlkmeans weight] > 0e0 AND place <= @seed_rows;
SELECT @differing = COUNT(*) FROM (SELECT DISTINCT TOP (@k) ' + @kept_z + N' FROM #sqlkmeans_seed) AS d;
IF @differing < @k
BEGIN
    INSERT INTO #sqlkmeans_seed ([sqlkmeans row], [sqlkmeans weight], ' + @kept_z + N')
    SELECT TOP (@k) -ROW_NUMBER() OVER (ORDER BY MIN([sqlkmeans row])), 1e0, ' + @kept_z + N'
    FROM #sqlkmeans_prepared
    WHERE [sqlkmeans weight] > 0e0
    GROUP BY ' + @kept_z + N'
    ORDER BY MIN([sqlkmeans row]);
    SET @differing = ROWCOUNT_BIG();
END;
INSERT INTO #sqlkmeans_centroid (cluster, ' + @z + N')
SELECT 0, ' + sqlkmeans.each_number(@features, N'AVG([sqlkmeans z{}])', N', ') + N' FROM #sqlkmeans_seed OPTION (MAXDOP 1);
' -- About the means: a difference of sums has no digits left where a feature lies far from 0.
        + N'SELECT @threshold = '
        + sqlkmeans.float_literal(sqlkmeans.shared_number(N'tolerance')) + N' * ('
        + sqlkmeans.each_number(@features,
            N'AVG((s.[sqlkmeans z{}] - c.z{}) * (s.[sqlkmeans z{}] - c.z{}))', N' + ')
        + N') / ' + CAST(@features AS nvarchar(10)) + N'
FROM #sqlkmeans_seed AS s CROSS JOIN #sqlkmeans_centroid AS c OPTION (MAXDOP 1);';
    EXECUTE sys.sp_executesql
        @statement, N'@k int, @seed bigint, @share float, @seed_rows int, @differing int OUTPUT, @threshold float OUTPUT',
        @k = @k, @seed = @seed, @share = @share, @seed_rows = @seed_rows,
        @differing = @differing OUTPUT, @threshold = @threshold OUTPUT;
    IF @differing < @k
    BEGIN
        SET @problem = N'k = ' + CAST(@k AS nvarchar(10)) + N' needs at least '
            + CAST(@k AS nvarchar(10)) + N' customers that differ in their features, and there are '
            + CAST(@differing AS nvarchar(10)) + N' among ' + CAST(@weighing AS nvarchar(20))
            + N' rows; lower k or add features';
        EXECUTE sqlkmeans.raise_problems @number = 50003, @problems = @problem;
    END;

    -- All starts are one text. They are compared near their ends, where the best is easy to tell; the
    -- last turn carries that one on, from the copy of it in rows -1, -2 ... Where rounding leads past
    -- the last row, the farthest is the candidate. Plans are kept: small tables that are emptied and
    -- filled in each turn would have them compiled anew every few turns.
    SET @statement = N'DECLARE @shift float;
DECLARE @inertia float;
DECLARE @least float;
DECLARE @start int = 1;
DECLARE @cluster int;
DECLARE @row int;
DECLARE @passes int;
DECLARE @message nvarchar(400);
WHILE @start <= @n_init + 1
BEGIN
DELETE FROM #sqlkmeans_centroid WHERE cluster > 0;
UPDATE #sqlkmeans_centroid SET cluster = -cluster WHERE cluster < 0 AND @start > @n_init;
UPDATE #sqlkmeans_seed SET closest = 1e0;
SELECT @cluster = 1, @passes = 0, @shift = NULL;
WHILE @cluster <= @k AND @start <= @n_init
BEGIN
    SET @row = NULL;
    DELETE FROM #sqlkmeans_draw;
    INSERT INTO #sqlkmeans_draw (number)
    SELECT CAST(SUBSTRING(HASHBYTES(''SHA2_256'', CONCAT(@seed, N''|'', @start, N''|'', @cluster, N''|'', t.trial)), 1, 6)
        AS bigint) / 281474976710656e0
    FROM (VALUES ' + sqlkmeans.each_number(2 + FLOOR(LOG(@k)), N'({})', N', ') + N') AS t (trial)
    WHERE @cluster > 1 OR t.trial = 1;
    SELECT TOP (1) @row = g.row_number
    FROM (SELECT c.row_number, SUM(s.[sqlkmeans weight] * CASE WHEN ' + @squared + N' < s.closest OR @cluster = 1
                                                               THEN ' + @squared + N' ELSE s.closest END)
              AS potential
          FROM #sqlkmeans_seed AS s
          CROSS JOIN (SELECT DISTINCT u.row_number, ' + @z + N'
                      FROM #sqlkmeans_draw AS d
                      CROSS JOIN (SELECT SUM(s.[sqlkmeans weight] * s.closest) AS total FROM #sqlkmeans_seed AS s) AS w
                      INNER JOIN (SELECT s.[sqlkmeans row] AS row_number, '
        + sqlkmeans.each_number(@features, N's.[sqlkmeans z{}] AS z{}', N', ') + N',
                                      s.[sqlkmeans weight] * s.closest AS chance,
                                      SUM(s.[sqlkmeans weight] * s.closest) OVER (
                                          ORDER BY s.[sqlkmeans row] ROWS UNBOUNDED PRECEDING) AS upto
                                  FROM #sqlkmeans_seed AS s) AS u
                          ON u.chance > 0e0 AND d.number * w.total >= u.upto - u.chance AND d.number * w.total < u.upto) AS c
          GROUP BY c.row_number) AS g
    ORDER BY g.potential, g.row_number
    OPTION (MAXDOP 1, KEEPFIXED PLAN);
    IF @row IS NULL
        SELECT TOP (1) @row = s.[sqlkmeans row]
        FROM #sqlkmeans_seed AS s
        WHERE s.[sqlkmeans weight] > 0e0
        ORDER BY s.closest DESC, s.[sqlkmeans row];
    INSERT INTO #sqlkmeans_centroid (cluster, ' + @z + N')
    SELECT @cluster, ' + @kept_z + N' FROM #sqlkmeans_seed WHERE [sqlkmeans row] = @row;
    UPDATE s
    SET closest = ' + @squared + N'
    FROM #sqlkmeans_seed AS s
    INNER JOIN #sqlkmeans_centroid AS c ON c.cluster = @cluster
    WHERE s.closest > ' + @squared + N' OR @cluster = 1
    OPTION (KEEPFIXED PLAN);
    SET @cluster = @cluster + 1;
END;
WHILE @passes < @most AND (@shift IS NULL OR @shift > CASE WHEN @start > @n_init THEN 1e0 ELSE 1e1 END * @threshold)
BEGIN
' + sqlkmeans.pass_text(N'#sqlkmeans_seed', @k, @features) + N'
    SET @passes = @passes + 1;
END;
IF @start > @n_init
    SET @n_iter = @n_iter + @passes;
ELSE IF @least IS NULL OR @inertia < @least
BEGIN
    SELECT @least = @inertia, @n_iter = @passes;
    DELETE FROM #sqlkmeans_centroid WHERE cluster < 0;
    INSERT INTO #sqlkmeans_centroid (cluster, ' + @z + N')
    SELECT -cluster, ' + @z + N' FROM #sqlkmeans_centroid WHERE cluster > 0;
END;
SET @message = N''run '' + CAST(@run_id AS nvarchar(20)) + N'': '' + CASE WHEN @start > @n_init THEN N''the best start''
    ELSE N''start '' + CAST(@start AS nvarchar(10)) + N'' of '' + CAST(@n_init AS nvarchar(10)) END
    + N'', '' + CAST(@passes AS nvarchar(10)) + N'' passes over the sample'';
RAISERROR (@message, 0, 1) WITH NOWAIT;
SET @start = @start + 1;
END;';
    EXECUTE sys.sp_executesql
        @statement, N'@run_id bigint, @k int, @n_init int, @seed bigint, @most int, @threshold float, @n_iter int OUTPUT',
        @run_id = @run_id, @k = @k, @n_init = @n_init, @seed = @seed, @most = @most,
        @threshold = @threshold, @n_iter = @n_iter OUTPUT;
END;
GO
