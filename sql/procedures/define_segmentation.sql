IF OBJECT_ID(N'sqlkmeans.define_segmentation', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.define_segmentation AS RETURN 0;');
GO
-- Registers a segmentation, or changes the one of that name, after checking all of it.
ALTER PROCEDURE sqlkmeans.define_segmentation
    @segmentation  nvarchar(128) = NULL,
    @source        nvarchar(max) = NULL,
    @key           nvarchar(max) = NULL,
    @features      nvarchar(max) = NULL,
    @k             int           = NULL,
    @k_min         int           = NULL,
    @k_max         int           = NULL,
    @min_share     float         = 0,
    @target        nvarchar(400) = NULL,
    @scaling       nvarchar(16)  = N'standard',
    @missing       nvarchar(16)  = N'error',
    @n_init        int           = 10,
    @seed          bigint        = 0,
    @winsorize     nvarchar(100) = NULL,
    @sample_weight nvarchar(128) = NULL,
    @guard         nvarchar(max) = NULL,
    @changed_by    nvarchar(128) = NULL,
    @engine        nvarchar(32)  = N'local',
    @sample_rows   int           = 100000,
    @min_group     int           = 10,
    @language      nvarchar(128) = N'Python',
    @history_days  int           = NULL,
    @outlier       float         = NULL,
    @trim          float         = 0,
    @profile       nvarchar(max) = NULL,
    @execute       bit           = 1,
    @quiet         bit           = 0,
    @help          bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@segmentation', N'nvarchar(128)', N'NULL',
                N'Its name: letters, digits and underscores.'),
            (2, N'@source', N'nvarchar(max)', N'NULL',
                N'A table, a view, or one SELECT; a row for each customer.'),
            (3, N'@key', N'nvarchar(max)', N'NULL',
                N'The column that identifies a customer; several as a,b or as JSON ["a", "b"].'),
            (4, N'@features', N'nvarchar(max)', N'NULL',
                N'The columns to cluster by: a,b or JSON ["a", {"column": "b", "type": "category"}].'),
            (5, N'@k', N'int', N'NULL', N'The number of segments, 2 to 1,000.'),
            (6, N'@k_min', N'int', N'NULL',
                N'Instead of @k, with @k_max: the fewest segments that a run compares, 2 to 100.'),
            (7, N'@k_max', N'int', N'NULL', N'The most segments that a run compares, 2 to 100.'),
            (8, N'@min_share', N'float', N'0',
                N'Refuses a number of segments with a smaller segment than this share, 0 to below 0.5.'),
            (9, N'@target', N'nvarchar(400)', N'NULL',
                N'The segment table, table or schema.table; the first run makes it.'),
            (10, N'@scaling', N'nvarchar(16)', N'N''standard''', N'standard, robust, minmax or none.'),
            (11, N'@missing', N'nvarchar(16)', N'N''error''', N'error, skip, mean or median.'),
            (12, N'@n_init', N'int', N'10', N'Number of k-means++ starts, 1 to 1,000.'),
            (13, N'@seed', N'bigint', N'0', N'Of the random numbers, 0 to 4,294,967,295.'),
            (14, N'@winsorize', N'nvarchar(100)', N'NULL',
                N'Two quantiles, such as [0.01, 0.99], that values outside are pulled in to.'),
            (15, N'@sample_weight', N'nvarchar(128)', N'NULL',
                N'A column of the source: how much a customer counts in the fit.'),
            (16, N'@guard', N'nvarchar(max)', N'NULL',
                N'How much a run may differ from the one before: JSON {"action": "refuse", "psi": 0.5}.'),
            (17, N'@changed_by', N'nvarchar(128)', N'NULL',
                N'A column that grows when a row changes, or SYS_CHANGE_VERSION; assign reads only such rows.'),
            (18, N'@engine', N'nvarchar(32)', N'N''local''',
                N'Where sqlkmeans run trains: local, pushdown, in_database or tsql.'),
            (19, N'@sample_rows', N'int', N'100000',
                N'Starts run on so many rows at most, 0 to 10,000,000; with pushdown, 0 reads none.'),
            (20, N'@min_group', N'int', N'10',
                N'With @sample_rows 0, nothing about fewer customers leaves the database, 2 to 100,000.'),
            (21, N'@language', N'nvarchar(128)', N'N''Python''',
                N'The external language of engine in_database: Python, or one made with CREATE EXTERNAL LANGUAGE.'),
            (22, N'@history_days', N'int', N'NULL',
                N'How many days the history keeps a label that ended, 1 to 36,500; NULL keeps all.'),
            (23, N'@outlier', N'float', N'NULL',
                N'The share of each segment that is farthest at the fit, above 0 and below 0.5: outliers, as who is farther later.'),
            (24, N'@trim', N'float', N'0',
                N'The share of the customers, the farthest, that the fit leaves out, 0 to below 0.5.'),
            (25, N'@profile', N'nvarchar(max)', N'NULL',
                N'Columns that are described for each segment, never clustered on: a,b or JSON ["a", "b"].'),
            (26, N'@execute', N'bit', N'1', N'0 shows what would be done and does nothing.'),
            (27, N'@quiet', N'bit', N'0', N'1 gives no row back, for a procedure that calls this one.'),
            (28, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @problems nvarchar(max) = N'';
    DECLARE @definition nvarchar(max);
    DECLARE @key_columns nvarchar(max);
    DECLARE @now datetime2(6) = SYSUTCDATETIME();

    IF sqlkmeans.is_plain_name(@segmentation) = 0 OR LEN(@segmentation) > 100
        SET @problems = @problems + N'@segmentation: ' + COALESCE(@segmentation, N'NULL')
            + N' given; allowed: letters, digits and underscores, 100 at most' + @line;
    -- A server may not tell cases apart, and the definition is read by one that does.
    SET @scaling = LOWER(@scaling);
    SET @missing = LOWER(@missing);
    SET @engine = LOWER(@engine);

    IF @k IS NOT NULL AND (@k_min IS NOT NULL OR @k_max IS NOT NULL)
        SET @problems = @problems + N'@k: ' + CAST(@k AS nvarchar(20))
            + N' given beside @k_min or @k_max; allowed: either @k, or @k_min and @k_max' + @line;
    ELSE IF @k_min IS NULL AND @k_max IS NULL
    BEGIN
        IF @k IS NULL OR @k NOT BETWEEN 2 AND 1000
            SET @problems = @problems + N'@k: ' + COALESCE(CAST(@k AS nvarchar(20)), N'NULL')
                + N' given; allowed: 2 to 1,000, or @k_min and @k_max instead' + @line;
    END;
    ELSE IF @k_min IS NULL OR @k_max IS NULL OR @k_min < 2 OR @k_max > 100 OR @k_min > @k_max
        SET @problems = @problems + N'@k_min: ' + COALESCE(CAST(@k_min AS nvarchar(20)), N'NULL')
            + N' and @k_max: ' + COALESCE(CAST(@k_max AS nvarchar(20)), N'NULL')
            + N' given; allowed: both, 2 to 100, @k_min not above @k_max' + @line;
    IF @min_share IS NULL OR @min_share < 0 OR @min_share >= 0.5
        SET @problems = @problems + N'@min_share: '
            + COALESCE(CAST(@min_share AS nvarchar(40)), N'NULL')
            + N' given; allowed: 0 to below 0.5' + @line;
    IF @winsorize IS NOT NULL AND sqlkmeans.quantiles(@winsorize) IS NULL
        SET @problems = @problems + N'@winsorize: ' + @winsorize
            + N' given; allowed: two quantiles, such as [0.01, 0.99]' + @line;
    IF @scaling IS NULL OR @scaling NOT IN (N'standard', N'robust', N'minmax', N'none')
        SET @problems = @problems + N'@scaling: ' + COALESCE(@scaling, N'NULL')
            + N' given; allowed: standard, robust, minmax, none' + @line;
    IF @missing IS NULL OR @missing NOT IN (N'error', N'skip', N'mean', N'median')
        SET @problems = @problems + N'@missing: ' + COALESCE(@missing, N'NULL')
            + N' given; allowed: error, skip, mean, median' + @line;
    IF @n_init IS NULL OR @n_init NOT BETWEEN 1 AND 1000
        SET @problems = @problems + N'@n_init: ' + COALESCE(CAST(@n_init AS nvarchar(20)), N'NULL')
            + N' given; allowed: 1 to 1,000' + @line;
    IF @seed IS NULL OR @seed NOT BETWEEN 0 AND 4294967295
        SET @problems = @problems + N'@seed: ' + COALESCE(CAST(@seed AS nvarchar(20)), N'NULL')
            + N' given; allowed: 0 to 4,294,967,295' + @line;
    IF @engine IS NULL OR @engine NOT IN (N'local', N'pushdown', N'in_database', N'tsql')
        SET @problems = @problems + N'@engine: ' + COALESCE(@engine, N'NULL')
            + N' given; allowed: local, pushdown, in_database, tsql' + @line;
    IF @sample_rows IS NULL OR @sample_rows NOT BETWEEN 0 AND 10000000
        SET @problems = @problems + N'@sample_rows: '
            + COALESCE(CAST(@sample_rows AS nvarchar(20)), N'NULL')
            + N' given; allowed: 0 to 10,000,000' + @line;
    ELSE IF @sample_rows = 0 AND @engine = N'local'
        SET @problems = @problems + N'@sample_rows: 0 lets no row leave the database, and engine '
            + N'local reads all of them; use pushdown' + @line;
    ELSE IF @sample_rows = 0 AND @engine = N'pushdown' AND @scaling = N'minmax'
        SET @problems = @problems + N'@scaling: minmax needs the least and the greatest value, which '
            + N'stay in the database with @sample_rows 0; use standard or robust' + @line;
    IF @min_group IS NULL OR @min_group NOT BETWEEN 2 AND 100000
        SET @problems = @problems + N'@min_group: '
            + COALESCE(CAST(@min_group AS nvarchar(20)), N'NULL')
            + N' given; allowed: 2 to 100,000' + @line;
    -- JSON has a control character as \u00…
    IF COALESCE(@language, N'') = N'' OR CHARINDEX(N'\u00', sqlkmeans.json_text(@language)) > 0
        SET @problems = @problems + N'@language: ' + COALESCE(@language, N'NULL')
            + N' given; allowed: the name of an external language, 1 to 128 characters' + @line;
    IF @history_days NOT BETWEEN 1 AND 36500
        SET @problems = @problems + N'@history_days: ' + CAST(@history_days AS nvarchar(20))
            + N' given; allowed: 1 to 36,500, or NULL' + @line;

    IF @outlier <= 0 OR @outlier >= 0.5
        SET @problems = @problems + N'@outlier: ' + CAST(@outlier AS nvarchar(40))
            + N' given; allowed: above 0 and below 0.5, or NULL' + @line;
    IF @trim IS NULL OR @trim < 0 OR @trim >= 0.5
        SET @problems = @problems + N'@trim: ' + COALESCE(CAST(@trim AS nvarchar(40)), N'NULL')
            + N' given; allowed: 0 to below 0.5' + @line;
    ELSE IF @trim > 0 AND @engine IN (N'pushdown', N'tsql')
        SET @problems = @problems + N'@trim: ' + CAST(@trim AS nvarchar(40))
            + N' needs to look at rows, and engine ' + @engine
            + N' sees sums; use local or in_database' + @line;

    SET @key = sqlkmeans.name_list(@key);
    IF @key IS NULL
        SET @problems = @problems + N'@key: not a list; allowed: a,b or JSON ["a", "b"]' + @line;
    IF LTRIM(@profile) <> N'' AND sqlkmeans.name_list(@profile) IS NULL
        SET @problems = @problems + N'@profile: not a list; allowed: a,b or JSON ["a", "b"]' + @line;
    SET @profile = sqlkmeans.name_list(@profile);
    EXECUTE sqlkmeans.complete_features
        @key = @key, @features = @features OUTPUT, @problems = @problems OUTPUT;
    EXECUTE sqlkmeans.complete_guard @guard = @guard OUTPUT, @problems = @problems OUTPUT;

    SET @definition = N'{"name":' + sqlkmeans.json_text(COALESCE(@segmentation, N''))
        + N',"source":' + sqlkmeans.json_text(COALESCE(@source, N''))
        + N',"key":' + COALESCE(@key, N'[]')
        + N',"features":' + @features
        + N',"k":' + COALESCE(CAST(@k AS nvarchar(20)), N'"auto"')
        + N',"k_min":' + CAST(COALESCE(@k_min, 2) AS nvarchar(20))
        + N',"k_max":' + CAST(COALESCE(@k_max, 10) AS nvarchar(20))
        + N',"min_share":' + LTRIM(RTRIM(CONVERT(nvarchar(40), COALESCE(@min_share, 0), 3)))
        + N',"target":' + sqlkmeans.json_text(COALESCE(@target, N''))
        + N',"scaling":' + sqlkmeans.json_text(COALESCE(@scaling, N''))
        + N',"missing":' + sqlkmeans.json_text(COALESCE(@missing, N''))
        + N',"n_init":' + CAST(COALESCE(@n_init, 0) AS nvarchar(20))
        + N',"seed":' + CAST(COALESCE(@seed, 0) AS nvarchar(20))
        + N',"winsorize":' + COALESCE(sqlkmeans.quantiles(@winsorize), N'null')
        + N',"sample_weight":' + sqlkmeans.json_text(@sample_weight)
        + N',"guard":' + @guard
        + N',"changed_by":' + sqlkmeans.json_text(@changed_by)
        + N',"engine":' + sqlkmeans.json_text(COALESCE(@engine, N''))
        + N',"sample_rows":' + CAST(COALESCE(@sample_rows, 0) AS nvarchar(20))
        + N',"min_group":' + CAST(COALESCE(@min_group, 0) AS nvarchar(20))
        + N',"language":' + sqlkmeans.json_text(COALESCE(@language, N''))
        + N',"outlier":' + COALESCE(LTRIM(RTRIM(CONVERT(nvarchar(40), @outlier, 3))), N'null')
        + N',"trim":' + LTRIM(RTRIM(CONVERT(nvarchar(40), COALESCE(@trim, 0), 3)))
        + N',"history_days":' + COALESCE(CAST(@history_days AS nvarchar(20)), N'null')
        + N',"profile":' + COALESCE(@profile, N'[]')
        -- The client's own: a definition file has them.
        + N',"memory_limit":null,"spark":{"master":null,"keep":"cache","connections":8,"format":"parquet"}}';

    EXECUTE sqlkmeans.check_definition
        @segmentation = @segmentation, @definition = @definition,
        @problems = @problems OUTPUT, @key_columns = @key_columns OUTPUT;
    EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;

    IF @execute = 1
    BEGIN
        UPDATE sqlkmeans.segmentation
        SET definition = @definition, target = @target, updated_at = @now
        WHERE name = @segmentation;

        IF NOT EXISTS (SELECT 1 FROM sqlkmeans.segmentation AS g WHERE g.name = @segmentation)
            INSERT INTO sqlkmeans.segmentation
                (name, definition, target, last_segment_id, created_at, updated_at)
            VALUES (@segmentation, @definition, @target, 0, @now, @now);
    END;

    IF @quiet = 0
        SELECT @segmentation AS segmentation,
            CASE WHEN @execute = 1 THEN N'registered' ELSE N'would be registered' END AS outcome,
            N'a run makes ' + sqlkmeans.quoted_name(@target, N'') + N' (' + @key_columns
                + N'segment_id int NOT NULL, distance float NOT NULL, is_outlier bit NOT NULL, '
                + N'run_id bigint NOT NULL, assigned_at datetime2(6) NOT NULL), '
                + sqlkmeans.quoted_name(@target, N'_history') + N' and '
                + sqlkmeans.quoted_name(@target, N'_named') AS next_step,
            @definition AS definition;
END;
GO
