IF OBJECT_ID(N'sqlkmeans.define_segmentation', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.define_segmentation AS RETURN 0;');
GO
-- Registers a segmentation, or changes the one of that name, after checking all of it.
ALTER PROCEDURE sqlkmeans.define_segmentation
    @segmentation nvarchar(128) = NULL,
    @source       nvarchar(max) = NULL,
    @key          nvarchar(max) = NULL,
    @features     nvarchar(max) = NULL,
    @k            int           = NULL,
    @target       nvarchar(400) = NULL,
    @scaling      nvarchar(16)  = N'standard',
    @missing      nvarchar(16)  = N'error',
    @n_init       int           = 10,
    @seed         bigint        = 0,
    @engine       nvarchar(32)  = N'local',
    @execute      bit           = 1,
    @help         bit           = 0
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
                N'The columns to cluster by: a,b or JSON ["a", {"column": "b", "transform": "log1p", "weight": 2}].'),
            (5, N'@k', N'int', N'NULL', N'The number of segments, 2 to 1,000.'),
            (6, N'@target', N'nvarchar(400)', N'NULL',
                N'The segment table, table or schema.table; the first run makes it.'),
            (7, N'@scaling', N'nvarchar(16)', N'N''standard''', N'standard, robust, minmax or none.'),
            (8, N'@missing', N'nvarchar(16)', N'N''error''', N'error, skip, mean or median.'),
            (9, N'@n_init', N'int', N'10', N'Number of k-means++ starts, 1 to 1,000.'),
            (10, N'@seed', N'bigint', N'0', N'Of the random numbers, 0 to 4,294,967,295.'),
            (11, N'@engine', N'nvarchar(32)', N'N''local''',
                N'Where sqlkmeans run trains: local, or in_database.'),
            (12, N'@execute', N'bit', N'1', N'0 shows what would be done and does nothing.'),
            (13, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

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

    IF @k IS NULL OR @k NOT BETWEEN 2 AND 1000
        SET @problems = @problems + N'@k: ' + COALESCE(CAST(@k AS nvarchar(20)), N'NULL')
            + N' given; allowed: 2 to 1,000' + @line;
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
    IF @engine IS NULL OR @engine NOT IN (N'local', N'in_database')
        SET @problems = @problems + N'@engine: ' + COALESCE(@engine, N'NULL')
            + N' given; allowed: local, in_database' + @line;

    SET @key = sqlkmeans.name_list(@key);
    SET @features = sqlkmeans.name_list(@features);
    IF @key IS NULL
        SET @problems = @problems + N'@key: not a list; allowed: a,b or JSON ["a", "b"]' + @line;
    IF @features IS NULL
        SET @problems = @problems
            + N'@features: not a list; allowed: a,b or JSON ["a", {"column": "b"}]' + @line;

    -- Features as a definition holds them: every one an object with every key.
    CREATE TABLE #feature
    (
        position  int           NOT NULL,
        name      nvarchar(128) COLLATE DATABASE_DEFAULT NULL,
        transform nvarchar(100) COLLATE DATABASE_DEFAULT NULL,
        weight    nvarchar(100) COLLATE DATABASE_DEFAULT NULL
    );
    INSERT INTO #feature (position, name, transform, weight)
    SELECT CAST(j.[key] AS int) + 1,
        CASE j.[type] WHEN 1 THEN j.[value] WHEN 5 THEN JSON_VALUE(j.[value], '$.column') END,
        LOWER(COALESCE(CASE WHEN j.[type] = 5 THEN JSON_VALUE(j.[value], '$.transform') END, N'none')),
        COALESCE(CASE WHEN j.[type] = 5 THEN JSON_VALUE(j.[value], '$.weight') END, N'1.0')
    FROM OPENJSON(@features) AS j;

    DECLARE @unknown nvarchar(4000);
    SELECT @unknown = MIN(k.[key])
    FROM OPENJSON(@features) AS j
    CROSS APPLY OPENJSON(CASE WHEN j.[type] = 5 THEN j.[value] ELSE N'{}' END) AS k
    WHERE k.[key] NOT IN (N'column', N'transform', N'weight');
    IF @unknown IS NOT NULL
        SET @problems = @problems + N'@features: unknown key ' + @unknown
            + N'; allowed: column, transform, weight' + @line;

    -- One row at a time: adding up texts over the rows of a SELECT is not the same on every server.
    DECLARE @list nvarchar(max) = N'';
    DECLARE @position int = 0;
    DECLARE @name nvarchar(128);
    DECLARE @transform nvarchar(100);
    DECLARE @weight nvarchar(100);
    WHILE @position < (SELECT COUNT(*) FROM #feature AS f)
    BEGIN
        SET @position = @position + 1;
        SELECT @name = COALESCE(f.name, N''), @transform = f.transform, @weight = f.weight
        FROM #feature AS f
        WHERE f.position = @position;

        IF @transform NOT IN (N'none', N'log1p')
            SET @problems = @problems + N'@features: transform ' + @transform + N' of ' + @name
                + N' given; allowed: none, log1p' + @line;
        IF COALESCE(TRY_CAST(@weight AS float), 0) <= 0
            SET @problems = @problems + N'@features: weight ' + @weight + N' of ' + @name
                + N' given; allowed: a number above 0' + @line;
        IF EXISTS (SELECT 1 FROM #feature AS f WHERE f.name = @name AND f.position < @position)
            SET @problems = @problems + N'@features: ' + @name + N' is named twice' + @line;
        IF EXISTS (SELECT 1 FROM OPENJSON(@key) AS j WHERE j.[value] = @name)
            SET @problems = @problems + N'@features: ' + @name
                + N' is the key too; a key identifies, it does not measure' + @line;

        SET @list = @list + CASE WHEN @position > 1 THEN N',' ELSE N'' END
            + N'{"column":' + sqlkmeans.json_text(@name) + N',"transform":'
            + sqlkmeans.json_text(@transform) + N',"weight":'
            -- As it came where that is a JSON number, which .5 and +2 are not.
            + CASE WHEN ISJSON(N'[' + @weight + N']') = 1 THEN @weight
                   ELSE COALESCE(CONVERT(nvarchar(40), TRY_CAST(@weight AS float), 3), N'1.0') END
            + N'}';
    END;

    SET @definition = N'{"name":' + sqlkmeans.json_text(COALESCE(@segmentation, N''))
        + N',"source":' + sqlkmeans.json_text(COALESCE(@source, N''))
        + N',"key":' + COALESCE(@key, N'[]')
        + N',"features":[' + @list
        + N'],"k":' + CAST(COALESCE(@k, 0) AS nvarchar(20))
        + N',"target":' + sqlkmeans.json_text(COALESCE(@target, N''))
        + N',"scaling":' + sqlkmeans.json_text(COALESCE(@scaling, N''))
        + N',"missing":' + sqlkmeans.json_text(COALESCE(@missing, N''))
        + N',"n_init":' + CAST(COALESCE(@n_init, 0) AS nvarchar(20))
        + N',"seed":' + CAST(COALESCE(@seed, 0) AS nvarchar(20))
        + N',"engine":' + sqlkmeans.json_text(COALESCE(@engine, N'')) + N'}';

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

    SELECT @segmentation AS segmentation,
        CASE WHEN @execute = 1 THEN N'registered' ELSE N'would be registered' END AS outcome,
        N'a run makes ' + sqlkmeans.quoted_name(@target, N'') + N' (' + @key_columns
            + N'segment_id int NOT NULL, distance float NOT NULL, run_id bigint NOT NULL, '
            + N'assigned_at datetime2(6) NOT NULL), '
            + sqlkmeans.quoted_name(@target, N'_history') + N' and '
            + sqlkmeans.quoted_name(@target, N'_named') AS next_step,
        @definition AS definition;
END;
GO
