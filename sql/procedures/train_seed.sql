IF OBJECT_ID(N'sqlkmeans.train_seed', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_seed AS RETURN 0;');
GO
-- Finds where the passes over all rows start: draws the caller's #sqlkmeans_sample from its
-- #sqlkmeans_prepared, and leaves in its #sqlkmeans_centroid, behind the mean as row 0, the best of
-- n_init starts on up to 500 k rows of it, carried to its end there (Bradley and Fayyad, 1998). A start
-- is greedy k-means++ (Arthur and Vassilvitskii, 2007), the best of a few candidates each time; a
-- candidate is drawn in proportion to its squared distance from the centroids so far.
ALTER PROCEDURE sqlkmeans.train_seed
    @run_id    bigint,
    @k         int,
    @features  int,
    @rows      bigint,
    @n_init    int,
    @seed      bigint,
    @threshold float OUTPUT,
    @n_iter    int   OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @z nvarchar(max) = sqlkmeans.each_number(@features, N'z{}', N', ');
    DECLARE @kept_z nvarchar(max) = sqlkmeans.each_number(@features, N'[sqlkmeans z{}]', N', ');
    DECLARE @kept nvarchar(max) = @kept_z
        + sqlkmeans.each_number(@features, N', [sqlkmeans o{}]', N'');
    DECLARE @of_seed nvarchar(max) = sqlkmeans.each_number(@features, N's.[sqlkmeans z{}]', N', ');
    DECLARE @squared nvarchar(max) = sqlkmeans.each_number(
        @features, N'(s.[sqlkmeans z{}] - c.z{}) * (s.[sqlkmeans z{}] - c.z{})', N' + ');
    DECLARE @seed_rows int = CASE WHEN 500 * @k > 5000 THEN 500 * @k ELSE 5000 END;
    DECLARE @sample_rows float;
    DECLARE @most int = sqlkmeans.shared_number(N'max_iter');
    DECLARE @share float;
    DECLARE @fitted bigint;
    DECLARE @differing int;
    DECLARE @trials int = 2 + FLOOR(LOG(@k));
    DECLARE @start int = 1;
    DECLARE @cluster int;
    DECLARE @trial int;
    DECLARE @statement nvarchar(max);
    DECLARE @problem nvarchar(max);

    -- Which rows are drawn depends on their order by key and on the seed alone: those with the least
    -- hashes, of which only what is below a share is sorted. Enough for the seeds, and for the ends of
    -- bins; weights of 0 are few, or make another look worth while.
    SET @sample_rows = sqlkmeans.shared_number(N'bin_rows');
    IF @sample_rows < @seed_rows
        SET @sample_rows = @seed_rows;
    SET @share = (@sample_rows + 6e0 * SQRT(@sample_rows) + 10e0) / @rows;
    SET @statement = N'DELETE FROM #sqlkmeans_sample;
INSERT INTO #sqlkmeans_sample ([sqlkmeans row], [sqlkmeans weight], place, ' + @kept + N')
SELECT h.[sqlkmeans row], h.[sqlkmeans weight], ROW_NUMBER() OVER (ORDER BY
    CASE WHEN h.[sqlkmeans weight] > 0e0 THEN 0 ELSE 1 END, h.hash, h.[sqlkmeans row]), ' + @kept + N'
FROM (SELECT r.*, CAST(SUBSTRING(HASHBYTES(''SHA2_256'', CAST(@seed AS nvarchar(20)) + N''|''
          + CAST(r.[sqlkmeans row] AS nvarchar(20))), 1, 6) AS bigint) AS hash
      FROM #sqlkmeans_prepared AS r) AS h
WHERE @share >= 1e0 OR h.hash < @share * 281474976710656e0;
SELECT @fitted = COUNT_BIG(*) FROM #sqlkmeans_sample AS s WHERE s.[sqlkmeans weight] > 0e0;';
    EXECUTE sys.sp_executesql @statement, N'@seed bigint, @share float, @fitted bigint OUTPUT',
        @seed = @seed, @share = @share, @fitted = @fitted OUTPUT;
    IF @fitted < @seed_rows AND @share < 1e0
    BEGIN
        SELECT @fitted = COUNT_BIG(*) FROM #sqlkmeans_prepared AS r WHERE r.[sqlkmeans weight] > 0e0;
        SET @share = @share * @rows / @fitted;
        EXECUTE sys.sp_executesql @statement, N'@seed bigint, @share float, @fitted bigint OUTPUT',
            @seed = @seed, @share = @share, @fitted = @fitted OUTPUT;
    END;

    -- Rows that repeat often can crowd out the rare ones: k that differ are always in.
    SET @statement = N'INSERT INTO #sqlkmeans_seed ([sqlkmeans row], [sqlkmeans weight], ' + @kept_z + N')
SELECT s.[sqlkmeans row], s.[sqlkmeans weight], ' + @of_seed + N'
FROM #sqlkmeans_sample AS s
WHERE s.[sqlkmeans weight] > 0e0 AND s.place <= @seed_rows;
SELECT @differing = COUNT(*) FROM (SELECT DISTINCT TOP (@k) ' + @kept_z + N' FROM #sqlkmeans_seed) AS d;
IF @differing < @k
BEGIN
    INSERT INTO #sqlkmeans_seed ([sqlkmeans row], [sqlkmeans weight], ' + @kept_z + N')
    SELECT TOP (@k) -ROW_NUMBER() OVER (ORDER BY MIN(s.[sqlkmeans row])), 1e0, ' + @of_seed + N'
    FROM #sqlkmeans_prepared AS s
    WHERE s.[sqlkmeans weight] > 0e0
    GROUP BY ' + @of_seed + N'
    ORDER BY MIN(s.[sqlkmeans row]);
    SET @differing = ROWCOUNT_BIG();
END;
INSERT INTO #sqlkmeans_centroid (cluster, ' + @z + N')
SELECT 0, ' + sqlkmeans.each_number(@features, N'AVG(s.[sqlkmeans z{}])', N', ') + N' FROM #sqlkmeans_seed AS s OPTION (MAXDOP 1);
' -- About the means: a difference of sums has no digits left where a feature lies far from 0.
        + N'SELECT @threshold = '
        + sqlkmeans.float_literal(sqlkmeans.shared_number(N'tolerance')) + N' * ('
        + sqlkmeans.each_number(@features,
            N'AVG((s.[sqlkmeans z{}] - c.z{}) * (s.[sqlkmeans z{}] - c.z{}))', N' + ')
        + N') / ' + CAST(@features AS nvarchar(10)) + N'
FROM #sqlkmeans_seed AS s CROSS JOIN #sqlkmeans_centroid AS c OPTION (MAXDOP 1);';
    EXECUTE sys.sp_executesql
        @statement, N'@k int, @seed_rows int, @differing int OUTPUT, @threshold float OUTPUT',
        @k = @k, @seed_rows = @seed_rows, @differing = @differing OUTPUT,
        @threshold = @threshold OUTPUT;
    IF @differing < @k
    BEGIN
        SELECT @fitted = COUNT_BIG(*) FROM #sqlkmeans_prepared AS r WHERE r.[sqlkmeans weight] > 0e0;
        SET @problem = N'k = ' + CAST(@k AS nvarchar(10)) + N' needs at least '
            + CAST(@k AS nvarchar(10)) + N' customers that differ in their features, and there are '
            + CAST(@differing AS nvarchar(10)) + N' among ' + CAST(@fitted AS nvarchar(20))
            + N' rows; lower k or add features';
        EXECUTE sqlkmeans.raise_problems @number = 50003, @problems = @problem;
    END;

    CREATE TABLE #sqlkmeans_draw
    (
        start   int   NOT NULL,
        cluster int   NOT NULL,
        trial   int   NOT NULL,
        number  float NOT NULL
    );
    WHILE @start <= @n_init
    BEGIN
        SET @cluster = 1;
        WHILE @cluster <= @k
        BEGIN
            SET @trial = 1;
            WHILE @trial <= CASE @cluster WHEN 1 THEN 1 ELSE @trials END
            BEGIN
                INSERT INTO #sqlkmeans_draw (start, cluster, trial, number)
                VALUES (@start, @cluster, @trial, sqlkmeans.random_number(
                    CAST(@seed AS nvarchar(20)) + N'|' + CAST(@start AS nvarchar(10)) + N'|'
                    + CAST(@cluster - 1 AS nvarchar(10)) + N'|' + CAST(@trial AS nvarchar(10))));
                SET @trial = @trial + 1;
            END;
            SET @cluster = @cluster + 1;
        END;
        SET @start = @start + 1;
    END;

    -- All starts, each from its first candidate to its end, are one text. Where rounding leads past
    -- the last row, or to two rows, the farthest is the candidate.
    SET @statement = N'DECLARE @shift float;
DECLARE @inertia float;
DECLARE @least float;
DECLARE @start int = 1;
DECLARE @cluster int;
DECLARE @trial int;
DECLARE @passes int;
DECLARE @message nvarchar(400);
WHILE @start <= @n_init
BEGIN
SET @cluster = 1;
DELETE FROM #sqlkmeans_centroid WHERE cluster > 0;
TRUNCATE TABLE #sqlkmeans_start;
INSERT INTO #sqlkmeans_start ([sqlkmeans row], [sqlkmeans weight], closest, ' + @kept_z + N')
SELECT s.[sqlkmeans row], s.[sqlkmeans weight], 1e0, ' + @of_seed + N' FROM #sqlkmeans_seed AS s;
WHILE @cluster <= @k
BEGIN
    DELETE FROM #sqlkmeans_candidate;
    INSERT INTO #sqlkmeans_candidate (trial, ' + @z + N')
    SELECT d.trial, ' + @of_seed + N'
    FROM (SELECT t.trial, t.number * g.total AS place
          FROM #sqlkmeans_draw AS t
          CROSS JOIN (SELECT SUM(s.[sqlkmeans weight] * s.closest) AS total FROM #sqlkmeans_start AS s) AS g
          WHERE t.start = @start AND t.cluster = @cluster) AS d
    INNER JOIN (SELECT ' + @of_seed + N', s.[sqlkmeans weight] * s.closest AS chance,
                    SUM(s.[sqlkmeans weight] * s.closest) OVER (
                        ORDER BY s.[sqlkmeans row] ROWS UNBOUNDED PRECEDING) AS upto
                FROM #sqlkmeans_start AS s) AS s
        ON s.upto > d.place AND s.upto - s.chance <= d.place AND s.chance > 0e0
    OPTION (MAXDOP 1);
    IF NOT EXISTS (SELECT 1 FROM #sqlkmeans_candidate AS c)
        INSERT INTO #sqlkmeans_candidate (trial, ' + @z + N')
        SELECT TOP (1) 1, ' + @of_seed + N'
        FROM #sqlkmeans_start AS s
        WHERE s.[sqlkmeans weight] > 0e0
        ORDER BY s.closest DESC, s.[sqlkmeans row];
    SET @trial = 1;
    IF @cluster > 1
        SELECT TOP (1) @trial = g.trial
        FROM (SELECT c.trial, SUM(s.[sqlkmeans weight] * CASE WHEN ' + @squared + N' < s.closest
                                                              THEN ' + @squared + N' ELSE s.closest END)
                  AS potential
              FROM #sqlkmeans_start AS s
              CROSS JOIN #sqlkmeans_candidate AS c
              GROUP BY c.trial) AS g
        ORDER BY g.potential, g.trial
        OPTION (MAXDOP 1);
    INSERT INTO #sqlkmeans_centroid (cluster, ' + @z + N')
    SELECT TOP (1) @cluster, ' + @z + N' FROM #sqlkmeans_candidate WHERE trial = @trial ORDER BY ' + @z + N';
    UPDATE s
    SET closest = ' + @squared + N'
    FROM #sqlkmeans_start AS s
    INNER JOIN #sqlkmeans_centroid AS c ON c.cluster = @cluster
    WHERE s.closest > ' + @squared + N' OR @cluster = 1;
    SET @cluster = @cluster + 1;
END;
SELECT @passes = 0, @shift = NULL;
WHILE @passes < ' + CAST(@most AS nvarchar(10)) + N' AND (@shift IS NULL OR @shift > @threshold)
BEGIN
' + sqlkmeans.pass_text(N'#sqlkmeans_seed', @k, @features) + N'
    SET @passes = @passes + 1;
END;
IF @least IS NULL OR @inertia < @least
BEGIN
    SELECT @least = @inertia, @n_iter = @passes;
    DELETE FROM #sqlkmeans_best;
    INSERT INTO #sqlkmeans_best (cluster, ' + @z + N') SELECT cluster, ' + @z + N' FROM #sqlkmeans_centroid;
END;
SET @message = N''run '' + CAST(@run_id AS nvarchar(20)) + N'': start '' + CAST(@start AS nvarchar(10))
    + N'' of '' + CAST(@n_init AS nvarchar(10)) + N'', '' + CAST(@passes AS nvarchar(10))
    + N'' passes over the sample'';
RAISERROR (@message, 0, 1) WITH NOWAIT;
SET @start = @start + 1;
END;
DELETE FROM #sqlkmeans_centroid;
INSERT INTO #sqlkmeans_centroid (cluster, ' + @z + N') SELECT cluster, ' + @z + N' FROM #sqlkmeans_best;';
    EXECUTE sys.sp_executesql
        @statement, N'@run_id bigint, @k int, @n_init int, @threshold float, @n_iter int OUTPUT',
        @run_id = @run_id, @k = @k, @n_init = @n_init, @threshold = @threshold,
        @n_iter = @n_iter OUTPUT;
END;
GO
