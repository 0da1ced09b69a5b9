IF OBJECT_ID(N'sqlkmeans.train_number', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_number AS RETURN 0;');
GO
-- Learns how a number, or a date's age, is prepared: quantiles, fill, centre and scale, from column
-- @f of the caller's #sqlkmeans_input, whose values it pulls in to the quantiles. Adds the run's row of
-- model_feature, or lines to @problems.
ALTER PROCEDURE sqlkmeans.train_number
    @run_id         bigint,
    @f              nvarchar(20),
    @feature        nvarchar(max),
    @winsorize      nvarchar(max),
    @scaling        nvarchar(16),
    @missing        nvarchar(16),
    @weighted       bit,
    @reference_date date,
    @problems       nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @name nvarchar(128) = JSON_VALUE(@feature, '$.column');
    DECLARE @type nvarchar(16) = COALESCE(JSON_VALUE(@feature, '$.type'), N'number');
    DECLARE @transform nvarchar(16) = COALESCE(JSON_VALUE(@feature, '$.transform'), N'none');
    DECLARE @known nvarchar(max) = N'SELECT i.[sqlkmeans row] AS row_number, i.' + @f
        + N' AS v, i.[sqlkmeans weight] AS w FROM #sqlkmeans_input AS i '
        + N'WHERE i.[sqlkmeans weight] > 0e0 AND i.' + @f + N' IS NOT NULL';
    DECLARE @filled nvarchar(max);
    DECLARE @statement nvarchar(max);
    DECLARE @rows bigint;
    DECLARE @differing bigint;
    DECLARE @fractions bigint;
    DECLARE @least float;
    DECLARE @greatest float;
    DECLARE @mean float;
    DECLARE @low float;
    DECLARE @high float;
    DECLARE @fill float;
    DECLARE @center float;
    DECLARE @scale float;
    DECLARE @rest float;
    DECLARE @share float;

    SET @statement = N'SELECT @rows = COUNT_BIG(*), @least = MIN(x.v), @greatest = MAX(x.v),
    @fractions = SUM(CASE WHEN x.v <> FLOOR(x.v) THEN 1 ELSE 0 END),
    @mean = SUM(x.w * x.v) / SUM(x.w)
FROM (' + @known + N') AS x;';
    EXECUTE sys.sp_executesql
        @statement, N'@rows bigint OUTPUT, @least float OUTPUT, @greatest float OUTPUT,
            @fractions bigint OUTPUT, @mean float OUTPUT',
        @rows = @rows OUTPUT, @least = @least OUTPUT, @greatest = @greatest OUTPUT,
        @fractions = @fractions OUTPUT, @mean = @mean OUTPUT;

    IF @rows = 0
    BEGIN
        SET @problems = @problems + @name + N': every value is NULL, so there is nothing to '
            + N'cluster by' + @line;
        RETURN 0;
    END;
    IF @least = @greatest
    BEGIN
        SET @problems = @problems + @name + N': constant (' + sqlkmeans.number_text(@least)
            + N' in all ' + CAST(@rows AS nvarchar(20)) + N' rows), so it separates nobody; '
            + N'remove it from features' + @line;
        RETURN 0;
    END;
    -- A column with so few numbers cannot hold as many different ones.
    IF @type = N'number' AND @rows >= 100 AND @fractions = 0
       AND @greatest - @least >= @rows - 1 AND @greatest - @least < 2 * @rows
    BEGIN
        SET @statement = N'SELECT @differing = COUNT_BIG(DISTINCT x.v) FROM (' + @known + N') AS x;';
        EXECUTE sys.sp_executesql
            @statement, N'@differing bigint OUTPUT', @differing = @differing OUTPUT;
        IF @differing = @rows
        BEGIN
            SET @problems = @problems + @name + N': like a key (' + CAST(@rows AS nvarchar(20))
                + N' whole numbers, all different), so it identifies and does not measure; '
                + N'remove it from features' + @line;
            RETURN 0;
        END;
    END;

    IF @missing = N'mean'
        SET @fill = @mean;
    IF @missing = N'median'
        EXECUTE sqlkmeans.train_quantile
            @query = @known, @share = 0.5, @weighted = @weighted, @result = @fill OUTPUT;

    SET @share = CAST(JSON_VALUE(@winsorize, '$[0]') AS float);
    IF @share IS NOT NULL
    BEGIN
        EXECUTE sqlkmeans.train_quantile
            @query = @known, @share = @share, @weighted = @weighted, @result = @low OUTPUT;
        SET @share = CAST(JSON_VALUE(@winsorize, '$[1]') AS float);
        EXECUTE sqlkmeans.train_quantile
            @query = @known, @share = @share, @weighted = @weighted, @result = @high OUTPUT;
        IF @low = @high
        BEGIN
            SET @problems = @problems + @name + N': winsorize pulls every value in to '
                + sqlkmeans.number_text(@low) + N'; use quantiles that lie further out, or none'
                + @line;
            RETURN 0;
        END;
        SET @statement = N'UPDATE #sqlkmeans_input SET ' + @f + N' = CASE WHEN ' + @f + N' < @low THEN @low '
            + N'ELSE @high END WHERE ' + @f + N' < @low OR ' + @f + N' > @high;';
        EXECUTE sys.sp_executesql
            @statement, N'@low float, @high float', @low = @low, @high = @high;
    END;
    IF @transform = N'log1p' AND COALESCE(@low, @least) <= -1
    BEGIN
        SET @statement = N'SELECT @rows = COUNT_BIG(*) FROM #sqlkmeans_input AS i WHERE i.' + @f + N' <= -1e0;';
        EXECUTE sys.sp_executesql @statement, N'@rows bigint OUTPUT', @rows = @rows OUTPUT;
        SET @problems = @problems + @name + N': ' + CAST(@rows AS nvarchar(20))
            + N' rows are -1 or less, where log1p has no value; use transform = "none" or correct '
            + N'the rows' + @line;
        RETURN 0;
    END;

    -- What K-Means will see: filled in, pulled in and transformed.
    SET @filled = N'SELECT y.row_number, y.w, ' + sqlkmeans.transformed(N'y.x', @transform)
        + N' AS v FROM (SELECT i.[sqlkmeans row] AS row_number, i.[sqlkmeans weight] AS w, '
        + COALESCE(N'COALESCE(i.' + @f + N', ' + sqlkmeans.float_literal(
            CASE WHEN @fill < @low THEN @low WHEN @fill > @high THEN @high ELSE @fill END) + N')',
            N'i.' + @f)
        + N' AS x FROM #sqlkmeans_input AS i WHERE i.[sqlkmeans weight] > 0e0) AS y';
    SELECT @center = 0, @scale = 1;
    IF @scaling = N'robust'
    BEGIN
        EXECUTE sqlkmeans.train_quantile
            @query = @filled, @share = 0.5, @weighted = @weighted, @result = @center OUTPUT;
        EXECUTE sqlkmeans.train_quantile
            @query = @filled, @share = 0.25, @weighted = @weighted, @result = @rest OUTPUT;
        EXECUTE sqlkmeans.train_quantile
            @query = @filled, @share = 0.75, @weighted = @weighted, @result = @scale OUTPUT;
        SET @scale = @scale - @rest;
    END;
    IF @scaling = N'minmax'
    BEGIN
        SET @statement = N'SELECT @center = MIN(x.v), @scale = MAX(x.v) - MIN(x.v) FROM ('
            + @filled + N') AS x;';
        EXECUTE sys.sp_executesql
            @statement, N'@center float OUTPUT, @scale float OUTPUT',
            @center = @center OUTPUT, @scale = @scale OUTPUT;
    END;
    IF @scaling = N'standard'
    BEGIN
        SET @statement = N'SELECT @center = SUM(x.w * x.v) / SUM(x.w) FROM (' + @filled + N') AS x;';
        EXECUTE sys.sp_executesql
            @statement, N'@center float OUTPUT', @center = @center OUTPUT;
        -- About the mean: the difference of two large squares would have no digits.
        SET @statement = N'SELECT @rest = SUM(x.w * (x.v - @center)) / SUM(x.w),
    @scale = SUM(x.w * (x.v - @center) * (x.v - @center)) / SUM(x.w)
FROM (' + @filled + N') AS x;';
        EXECUTE sys.sp_executesql
            @statement, N'@center float, @rest float OUTPUT, @scale float OUTPUT',
            @center = @center, @rest = @rest OUTPUT, @scale = @scale OUTPUT;
        SET @center = @center + @rest;
        SET @scale = CASE WHEN @scale > @rest * @rest THEN SQRT(@scale - @rest * @rest) ELSE 0 END;
    END;

    IF COALESCE(@scale, 0) <= 0
    BEGIN
        SET @problems = @problems + @name + N': scaling = "' + @scaling + N'" cannot scale it, '
            + N'because its ' + CASE @scaling WHEN N'robust' THEN N'interquartile range'
                                              ELSE N'deviation' END
            + N' is 0; use another scaling' + @line;
        RETURN 0;
    END;

    INSERT INTO sqlkmeans.model_feature
        (run_id, position, feature, transform, weight, center, scale, fill, source_column, type,
         low, high, reference_date)
    SELECT @run_id, COALESCE(MAX(f.position), 0) + 1, @name, @transform,
        COALESCE(CAST(JSON_VALUE(@feature, '$.weight') AS float), 1), @center, @scale, @fill, @name,
        @type, @low, @high, CASE @type WHEN N'date' THEN @reference_date END
    FROM sqlkmeans.model_feature AS f
    WHERE f.run_id = @run_id;
END;
GO
