IF OBJECT_ID(N'sqlkmeans.train_passes', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_passes AS RETURN 0;');
GO
-- Passes over the rows of the caller's #sqlkmeans_prepared until its #sqlkmeans_centroid rests, so that
-- a centroid is the mean of its rows, or as many as may be; leaves the last one's sums in
-- #sqlkmeans_moved. Passes count in the run's row, outside any transaction, so that others see how far
-- it is.
-- A row that is nearer to its centroid than to any other by a margin keeps it until some centroid is
-- half of that away from where it was then, in the rows -1, -2 ... (after Hamerly, 2010). So
-- #sqlkmeans_border has the rows by which a pass differs from the one before, few and fewer, and
-- #sqlkmeans_moved keeps the sums of the others.
ALTER PROCEDURE sqlkmeans.train_passes
    @run_id    bigint,
    @k         int,
    @features  int,
    @threshold float,
    @n_iter    int OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @z nvarchar(max) = sqlkmeans.each_number(@features, N', z{}', N'');
    DECLARE @kept_z nvarchar(max) = sqlkmeans.each_number(@features, N', r.[sqlkmeans z{}]', N'');
    DECLARE @squared nvarchar(max) = sqlkmeans.each_number(
        @features, N'(r.[sqlkmeans z{}] - c.z{}) * (r.[sqlkmeans z{}] - c.z{})', N' + ');
    DECLARE @all nvarchar(max) = N'SET @passes = 1;
' + sqlkmeans.pass_text(N'#sqlkmeans_prepared', @k, @features);
    DECLARE @part nvarchar(max) = N'SET @passes = 0;
WHILE @passes = 0 OR (@passes < 5 AND @shift > @rest AND 2 * @drift < @margin)
BEGIN
' + sqlkmeans.pass_text(N'#sqlkmeans_border', @k, @features)
        + N'SELECT @drift = SQRT(MAX(' + sqlkmeans.each_number(
            @features, N'(c.z{} - e.z{}) * (c.z{} - e.z{})', N' + ') + N'))
FROM #sqlkmeans_centroid AS c
INNER JOIN #sqlkmeans_centroid AS e ON e.cluster = -c.cluster
WHERE c.cluster > 0;
SET @passes = @passes + 1;
END;';
    DECLARE @within nvarchar(max) = N'(SELECT COUNT(*) FROM #sqlkmeans_centroid AS c WHERE c.cluster > 0 AND '
        + @squared + N' <= q.reach * q.reach)';
    DECLARE @narrow nvarchar(max);
    DECLARE @rows nvarchar(128);
    DECLARE @statement nvarchar(max);
    DECLARE @passes int;
    DECLARE @done int = 0;
    DECLARE @most int = sqlkmeans.shared_number(N'max_iter');
    DECLARE @rest float = 1e-16 * @threshold;
    DECLARE @margin float;
    DECLARE @drift float;
    DECLARE @shift float;
    DECLARE @inertia float;
    DECLARE @message nvarchar(400);

    -- How many centroids are as near as that: the row's own, and more where it may change.
    IF sqlkmeans.compares_in_pairs(@k, @features) = 1
        SET @within = sqlkmeans.each_number(@k, N'CASE WHEN ' + REPLACE(sqlkmeans.each_number(
            @features, N'(r.[sqlkmeans z{}] - @c~_{}) * (r.[sqlkmeans z{}] - @c~_{})', N' + '), N'~', N'{}')
            + N' <= q.reach * q.reach THEN 1 ELSE 0 END', N' + ');
    SET @narrow = sqlkmeans.centroid_values(@k, @features)
        + sqlkmeans.sums_text(N'{rows}', @k, @features, 1, N'')
        + N'INSERT INTO #sqlkmeans_border (level, [sqlkmeans row], [sqlkmeans previous], [sqlkmeans weight]'
        + REPLACE(@kept_z, N'r.', N'') + N')
SELECT @level, r.[sqlkmeans row], r.[sqlkmeans previous], r.[sqlkmeans weight]' + @kept_z + N'
FROM {rows} AS r
' + sqlkmeans.nearest(@k, @features) + N'
INNER JOIN #sqlkmeans_centroid AS o ON o.cluster = n.cluster
CROSS APPLY (SELECT SQRT(' + REPLACE(@squared, N'c.z', N'o.z') + N') + @margin AS reach) AS q
WHERE ' + @within + N' > 1;
DELETE FROM #sqlkmeans_border WHERE level < @level;
' + sqlkmeans.sums_text(N'#sqlkmeans_border', @k, @features, 1, N'-')
        + N'DELETE FROM #sqlkmeans_centroid WHERE cluster < 0;
INSERT INTO #sqlkmeans_centroid (cluster' + @z + N')
SELECT -cluster' + @z + N' FROM #sqlkmeans_centroid WHERE cluster > 0;';

    WHILE @done < @most AND (@shift IS NULL OR @shift > @rest)
    BEGIN
        -- The first pass tells how far centroids still move; one without a row may go anywhere.
        IF @shift IS NULL
            SELECT @margin = NULL, @rows = NULL;
        ELSE IF @margin IS NULL OR 2 * @drift >= @margin
            SELECT @margin = 8 * SQRT(@shift), @rows = N'#sqlkmeans_prepared';
        ELSE IF 3 * 8 * SQRT(@shift) < @margin - 2 * @drift
            SELECT @margin = 8 * SQRT(@shift), @rows = N'#sqlkmeans_border';
        ELSE
            SET @rows = N'';
        IF @rows IS NULL OR @rows = N'#sqlkmeans_prepared'
            DELETE FROM #sqlkmeans_moved;
        IF @rows LIKE N'#%'
        BEGIN
            SET @statement = REPLACE(@narrow, N'{rows}', @rows);
            EXECUTE sys.sp_executesql
                @statement, N'@level int, @margin float', @level = @done, @margin = @margin;
        END;
        SET @statement = CASE WHEN @rows IS NULL THEN @all ELSE @part END;
        EXECUTE sys.sp_executesql @statement,
            N'@k int, @rest float, @margin float, @passes int OUTPUT, @shift float OUTPUT,
                @inertia float OUTPUT, @drift float OUTPUT',
            @k = @k, @rest = @rest, @margin = @margin, @passes = @passes OUTPUT,
            @shift = @shift OUTPUT, @inertia = @inertia OUTPUT, @drift = @drift OUTPUT;
        SELECT @done = @done + @passes, @n_iter = @n_iter + @passes;

        UPDATE sqlkmeans.run
        SET n_iter = @n_iter, inertia = @inertia
        WHERE run_id = @run_id;
        SET @message = N'run ' + CAST(@run_id AS nvarchar(20)) + N': pass '
            + CAST(@done AS nvarchar(10)) + N' over all rows, inertia '
            + sqlkmeans.number_text(@inertia);
        RAISERROR (@message, 0, 1) WITH NOWAIT;
    END;
END;
GO
