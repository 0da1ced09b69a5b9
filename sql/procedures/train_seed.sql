IF OBJECT_ID(N'sqlkmeans.train_seed', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_seed AS RETURN 0;');
GO
-- Finds where the passes over all rows start: the best of n_init starts on a sample of the caller's
-- #sqlkmeans_scored, carried to its end there (Bradley and Fayyad, 1998), left in its #sqlkmeans_centroid.
ALTER PROCEDURE sqlkmeans.train_seed
    @run_id    bigint,
    @k         int,
    @features  int,
    @n_init    int,
    @seed      bigint,
    @threshold float OUTPUT,
    @n_iter    int   OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @z nvarchar(max) = sqlkmeans.each_number(@features, N'z{}', N', ');
    DECLARE @sample_rows int = CASE WHEN 500 * @k > 5000 THEN 500 * @k ELSE 5000 END;
    DECLARE @problem nvarchar(max);
    DECLARE @message nvarchar(400);
    DECLARE @statement nvarchar(max);
    DECLARE @fitted bigint;
    DECLARE @differing int;
    DECLARE @start int = 0;
    DECLARE @passes int;
    DECLARE @shift float;
    DECLARE @inertia float;
    DECLARE @least float;

    -- Which rows are drawn depends on their order by key and on the seed alone. By eight bytes of
    -- the hash: for a varbinary(8000), a sort would ask for 4 KB of memory a row.
    SELECT @fitted = COUNT_BIG(*) FROM #sqlkmeans_scored AS r WHERE r.weight > 0;
    SET @statement = N'INSERT INTO #sqlkmeans_sample (row_number, weight, closest, ' + @z + N')
SELECT TOP (@sample_rows) r.row_number, r.weight, 1e0, ' + @z + N'
FROM #sqlkmeans_scored AS r
WHERE r.weight > 0e0
ORDER BY ' + CASE WHEN @fitted <= @sample_rows THEN N'r.row_number;'
                  ELSE N'CAST(HASHBYTES(''SHA2_256'', CAST(@seed AS nvarchar(20)) + N''|'' '
                      + N'+ CAST(r.row_number AS nvarchar(20))) AS binary(8)), r.row_number;' END;
    EXECUTE sys.sp_executesql @statement, N'@sample_rows int, @seed bigint',
        @sample_rows = @sample_rows, @seed = @seed;

    -- Rows that repeat often can crowd out the rare ones: k that differ are always in.
    SET @statement = N'SELECT @differing = COUNT(*) FROM (SELECT DISTINCT TOP (@k) ' + @z
        + N' FROM #sqlkmeans_sample) AS d;';
    EXECUTE sys.sp_executesql @statement, N'@k int, @differing int OUTPUT',
        @k = @k, @differing = @differing OUTPUT;
    IF @differing < @k
    BEGIN
        SET @statement = N'INSERT INTO #sqlkmeans_sample (row_number, weight, closest, ' + @z + N')
SELECT TOP (@k) -ROW_NUMBER() OVER (ORDER BY MIN(r.row_number)), 1e0, 1e0, ' + @z + N'
FROM #sqlkmeans_scored AS r
WHERE r.weight > 0e0
GROUP BY ' + @z + N'
ORDER BY MIN(r.row_number);
SET @differing = ROWCOUNT_BIG();';
        EXECUTE sys.sp_executesql @statement, N'@k int, @differing int OUTPUT',
            @k = @k, @differing = @differing OUTPUT;
    END;
    IF @differing < @k
    BEGIN
        SET @problem = N'k = ' + CAST(@k AS nvarchar(10)) + N' needs at least '
            + CAST(@k AS nvarchar(10)) + N' customers that differ in their features, and there are '
            + CAST(@differing AS nvarchar(10)) + N' among ' + CAST(@fitted AS nvarchar(20))
            + N' rows; lower k or add features';
        EXECUTE sqlkmeans.raise_problems @number = 50003, @problems = @problem;
    END;

    -- About the means: VARP takes the difference of two sums, which has no digits left where a
    -- feature that nothing scales lies far from 0.
    SET @statement = N'SELECT @threshold = 1e-4 * ('
        + sqlkmeans.each_number(@features, N'AVG((s.z{} - o.z{}) * (s.z{} - o.z{}))', N' + ')
        + N') / ' + CAST(@features AS nvarchar(10)) + N' FROM #sqlkmeans_sample AS s CROSS JOIN (SELECT '
        + sqlkmeans.each_number(@features, N'AVG(a.z{}) AS z{}', N', ')
        + N' FROM #sqlkmeans_sample AS a) AS o;';
    EXECUTE sys.sp_executesql @statement, N'@threshold float OUTPUT', @threshold = @threshold OUTPUT;

    WHILE @start < @n_init
    BEGIN
        SET @start = @start + 1;
        EXECUTE sqlkmeans.train_start
            @k = @k, @features = @features, @seed = @seed, @start = @start;
        SELECT @passes = 0, @shift = NULL;
        WHILE @passes < 300 AND (@shift IS NULL OR @shift > @threshold)
        BEGIN
            EXECUTE sqlkmeans.train_pass
                @sample = 1, @features = @features, @shift = @shift OUTPUT,
                @inertia = @inertia OUTPUT;
            SET @passes = @passes + 1;
        END;
        IF @least IS NULL OR @inertia < @least
        BEGIN
            SELECT @least = @inertia, @n_iter = @passes;
            SET @statement = N'DELETE FROM #sqlkmeans_best; INSERT INTO #sqlkmeans_best (cluster, ' + @z
                + N') SELECT cluster, ' + @z + N' FROM #sqlkmeans_centroid;';
            EXECUTE sys.sp_executesql @statement;
        END;
        SET @message = N'run ' + CAST(@run_id AS nvarchar(20)) + N': start '
            + CAST(@start AS nvarchar(10)) + N' of ' + CAST(@n_init AS nvarchar(10)) + N', '
            + CAST(@passes AS nvarchar(10)) + N' passes over the sample';
        RAISERROR (@message, 0, 1) WITH NOWAIT;
    END;

    SET @statement = N'DELETE FROM #sqlkmeans_centroid; INSERT INTO #sqlkmeans_centroid (cluster, ' + @z
        + N') SELECT cluster, ' + @z + N' FROM #sqlkmeans_best;';
    EXECUTE sys.sp_executesql @statement;
END;
GO
