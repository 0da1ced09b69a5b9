IF OBJECT_ID(N'sqlkmeans.train_prepare', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_prepare AS RETURN 0;');
GO
-- Learns from the caller's #sqlkmeans_input how each feature is prepared, as the run's rows of model_feature.
-- Leaves out the rows that "skip" skips. Raises every problem of all columns at once.
ALTER PROCEDURE sqlkmeans.train_prepare
    @run_id         bigint,
    @definition     nvarchar(max),
    @reference_date date
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @problems nvarchar(max) = N'';
    DECLARE @scaling nvarchar(16) = JSON_VALUE(@definition, '$.scaling');
    DECLARE @missing nvarchar(16) = JSON_VALUE(@definition, '$.missing');
    DECLARE @weighted bit;
    DECLARE @winsorize nvarchar(max);
    DECLARE @own_winsorize nvarchar(max);
    DECLARE @feature nvarchar(max);
    DECLARE @name nvarchar(128);
    DECLARE @type nvarchar(16);
    DECLARE @f nvarchar(20);
    DECLARE @statement nvarchar(max);
    DECLARE @nulls nvarchar(max) = N'';
    DECLARE @total bigint;
    DECLARE @absent bigint;
    DECLARE @features int;
    DECLARE @position int = 0;

    SELECT @weighted = CASE WHEN j.sample_weight IS NULL THEN 0 ELSE 1 END,
        @winsorize = sqlkmeans.quantiles(j.winsorize)
    FROM OPENJSON(@definition) WITH (
        sample_weight nvarchar(max) '$.sample_weight', winsorize nvarchar(max) '$.winsorize' AS JSON
    ) AS j;
    SELECT @total = COUNT_BIG(*) FROM #sqlkmeans_input AS i;
    IF @total = 0
        EXECUTE sqlkmeans.raise_problems @number = 50003,
            @problems = N'the source has no rows; nothing was changed';

    SET @statement = N'UPDATE #sqlkmeans_input SET [sqlkmeans weight] = '
        + CASE @weighted WHEN 1 THEN N'[sqlkmeans sample weight];' ELSE N'1e0;' END;
    EXECUTE sys.sp_executesql @statement;
    SELECT @absent = COUNT_BIG(*) FROM #sqlkmeans_input AS i WHERE i.[sqlkmeans weight] IS NULL OR i.[sqlkmeans weight] < 0;
    IF @absent > 0
        SET @problems = N'sample_weight: ' + CAST(@absent AS nvarchar(20))
            + N' rows are NULL or negative; every weight must be a number, 0 or more' + @line;
    ELSE IF NOT EXISTS (SELECT 1 FROM #sqlkmeans_input AS i WHERE i.[sqlkmeans weight] > 0)
        SET @problems = N'sample_weight: no row has a weight above 0' + @line;

    CREATE TABLE #sqlkmeans_absent (position int NOT NULL PRIMARY KEY, usable bit NOT NULL);
    WHILE EXISTS (SELECT 1 FROM OPENJSON(@definition, '$.features') AS j
                  WHERE CAST(j.[key] AS int) = @position)
    BEGIN
        SELECT @name = JSON_VALUE(j.[value], '$.column'),
            @type = COALESCE(JSON_VALUE(j.[value], '$.type'), N'number')
        FROM OPENJSON(@definition, '$.features') AS j
        WHERE CAST(j.[key] AS int) = @position;
        SET @position = @position + 1;
        SET @f = N'[sqlkmeans f' + CAST(@position AS nvarchar(10)) + N']';
        SET @nulls = @nulls + CASE WHEN @nulls = N'' THEN N'' ELSE N' OR ' END + @f + N' IS NULL';

        SET @statement = N'SELECT @absent = COUNT_BIG(*) FROM #sqlkmeans_input AS i WHERE i.' + @f
            + N' IS NULL;' + CASE @type WHEN N'date' THEN N' UPDATE #sqlkmeans_input SET ' + @f
            + N' = DATEDIFF(day, ''19700101'', @reference_date) - ' + @f + N';' ELSE N'' END;
        EXECUTE sys.sp_executesql
            @statement, N'@reference_date date, @absent bigint OUTPUT',
            @reference_date = @reference_date, @absent = @absent OUTPUT;
        INSERT INTO #sqlkmeans_absent (position, usable)
        SELECT @position, CASE WHEN @missing <> N'error' AND @total >= 20 AND @absent < @total
                                    AND @absent > 0.95 * @total THEN 0 ELSE 1 END;
        -- They count in the bins although their rows are skipped: a broken load has most.
        IF @missing = N'skip'
            INSERT INTO #sqlkmeans_skipped (name, customers) VALUES (@name, @absent);
        IF @absent > 0 AND @missing = N'error'
            SET @problems = @problems + @name + N': ' + CAST(@absent AS nvarchar(20))
                + CASE @absent WHEN 1 THEN N' row is' ELSE N' rows are' END
                + N' NULL and missing = "error"; correct the rows, or set missing to "skip", '
                + N'"mean" or "median"' + @line;
        ELSE IF EXISTS (SELECT 1 FROM #sqlkmeans_absent AS a WHERE a.position = @position AND a.usable = 0)
            SET @problems = @problems + @name + N': ' + CAST(@absent AS nvarchar(20)) + N' of '
                + CAST(@total AS nvarchar(20))
                + N' rows are NULL, more than 95%; remove it from features' + @line;
    END;

    IF @missing = N'skip'
    BEGIN
        SET @statement = N'DELETE FROM #sqlkmeans_input WHERE ' + @nulls + N';';
        EXECUTE sys.sp_executesql @statement;
        IF NOT EXISTS (SELECT 1 FROM #sqlkmeans_input AS i)
            SET @problems = @problems + N'missing = "skip" leaves no row: each of the '
                + CAST(@total AS nvarchar(20)) + N' rows has a NULL in a feature' + @line;
    END;
    -- Weights that cannot be used, or no row: nothing can be learnt.
    IF NOT EXISTS (SELECT 1 FROM #sqlkmeans_input AS i WHERE i.[sqlkmeans weight] > 0)
        EXECUTE sqlkmeans.raise_problems @number = 50003, @problems = @problems;

    SET @position = 0;
    WHILE EXISTS (SELECT 1 FROM #sqlkmeans_absent AS a WHERE a.position > @position)
    BEGIN
        SET @position = @position + 1;
        SET @f = N'[sqlkmeans f' + CAST(@position AS nvarchar(10)) + N']';
        SELECT @feature = j.[value], @type = COALESCE(JSON_VALUE(j.[value], '$.type'), N'number')
        FROM OPENJSON(@definition, '$.features') AS j
        WHERE CAST(j.[key] AS int) = @position - 1;
        IF EXISTS (SELECT 1 FROM #sqlkmeans_absent AS a WHERE a.position = @position AND a.usable = 0)
            CONTINUE;

        IF @type = N'category'
            EXECUTE sqlkmeans.train_category
                @run_id = @run_id, @f = @f, @feature = @feature, @scaling = @scaling,
                @missing = @missing, @problems = @problems OUTPUT;
        ELSE
        BEGIN
            SELECT @own_winsorize = COALESCE(sqlkmeans.quantiles(j.winsorize), @winsorize)
            FROM OPENJSON(@feature) WITH (winsorize nvarchar(max) '$.winsorize' AS JSON) AS j;
            EXECUTE sqlkmeans.train_number
                @run_id = @run_id, @f = @f, @feature = @feature, @winsorize = @own_winsorize,
                @scaling = @scaling, @missing = @missing, @weighted = @weighted, @reference_date = @reference_date,
                @problems = @problems OUTPUT;
        END;
    END;

    -- Each feature takes two numbers of a row of #sqlkmeans_scored, and a row has 8,060 bytes: as many
    -- leave room for what else is in it.
    SELECT @features = COUNT(*) FROM sqlkmeans.model_feature AS f WHERE f.run_id = @run_id;
    IF @features > 494
        SET @problems = @problems + N'features: ' + CAST(@features AS nvarchar(10))
            + N', each kept level of a category counted; allowed with @engine = N''tsql'': 494; '
            + N'name fewer columns, or lower max_categories' + @line;

    SELECT @problems = @problems + MIN(f.feature)
        + N': two features would have this name; rename the column or the level' + @line
    FROM sqlkmeans.model_feature AS f
    WHERE f.run_id = @run_id
    GROUP BY f.feature COLLATE Latin1_General_100_BIN2
    HAVING COUNT(*) > 1;
    EXECUTE sqlkmeans.raise_problems @number = 50003, @problems = @problems;
END;
GO
