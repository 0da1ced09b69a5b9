IF OBJECT_ID(N'sqlkmeans.start_run', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.start_run AS RETURN 0;');
GO
-- Records a run as running, reclaims what a killed one left, and makes its staging table if it needs one.
ALTER PROCEDURE sqlkmeans.start_run
    @segmentation     nvarchar(128) = NULL,
    @definition       nvarchar(max) = NULL,
    @kind             nvarchar(16)  = N'fit',
    @engine           nvarchar(32)  = NULL,
    @client_version   nvarchar(64)  = NULL,
    @library_versions nvarchar(max) = NULL,
    @client           nvarchar(400) = NULL,
    @key_types        nvarchar(max) = NULL,
    @run_id           bigint        = NULL OUTPUT,
    @help             bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@segmentation', N'nvarchar(128)', N'NULL', N'The name of the segmentation.'),
            (2, N'@definition', N'nvarchar(max)', N'NULL',
                N'Its definition as JSON; NULL takes the one that is recorded.'),
            (3, N'@kind', N'nvarchar(16)', N'N''fit''',
                N'fit trains a model, assign labels with the active one, choose_k scores numbers of segments.'),
            (4, N'@engine', N'nvarchar(32)', N'NULL',
                N'Where the arithmetic happens; NULL takes the definition''s.'),
            (5, N'@client_version', N'nvarchar(64)', N'NULL',
                N'The version of sqlkmeans that runs; NULL takes the one installed here.'),
            (6, N'@library_versions', N'nvarchar(max)', N'NULL', N'For the run''s row.'),
            (7, N'@client', N'nvarchar(400)', N'NULL',
                N'For the run''s row, behind the login; NULL records the program.'),
            (8, N'@key_types', N'nvarchar(max)', N'NULL',
                N'A JSON list of the key''s types, where the client reads the source somewhere else.'),
            (9, N'@run_id', N'bigint OUTPUT', N'NULL', N'The run; its staging table is sqlkmeans.staging_<run_id>.'),
            (10, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @problems nvarchar(max) = N'';
    DECLARE @key_columns nvarchar(max);
    DECLARE @source nvarchar(max);
    DECLARE @key nvarchar(max);
    DECLARE @now datetime2(6) = SYSUTCDATETIME();

    DECLARE @recorded nvarchar(max);
    SELECT @recorded = g.definition FROM sqlkmeans.segmentation AS g WHERE g.name = @segmentation;
    SET @definition = COALESCE(@definition, @recorded);

    IF sqlkmeans.is_plain_name(@segmentation) = 0 OR LEN(@segmentation) > 100
        SET @problems = @problems + N'@segmentation: ' + COALESCE(@segmentation, N'NULL')
            + N' given; allowed: letters, digits and underscores, 100 at most' + @line;
    IF @kind NOT IN (N'fit', N'assign', N'choose_k') OR @kind IS NULL
        SET @problems = @problems + N'@kind: ' + COALESCE(@kind, N'NULL')
            + N' given; allowed: fit, assign, choose_k' + @line;
    IF @key_types IS NOT NULL AND ISJSON(@key_types) = 0
    BEGIN
        SET @problems = @problems + N'@key_types: not JSON; allowed: a list, such as ["bigint"]' + @line;
        SET @key_types = N'[]';
    END;
    IF @definition IS NULL OR ISJSON(@definition) = 0
        SET @problems = @problems + N'@definition: '
            + CASE WHEN @definition IS NULL THEN N'missing, and none is recorded' ELSE N'not JSON' END
            + N'; allowed: a definition as JSON' + @line;
    ELSE
    BEGIN
        IF JSON_VALUE(@definition, '$.name') <> @segmentation
            SET @problems = @problems + N'@definition: its name is '
                + JSON_VALUE(@definition, '$.name') + N', not ' + @segmentation + @line;
        SET @key = JSON_QUERY(@definition, '$.key');
        EXECUTE sqlkmeans.check_definition
            @segmentation = @segmentation, @definition = @definition,
            @problems = @problems OUTPUT, @key_columns = @key_columns OUTPUT,
            @key_types = @key_types;
        IF @key_types IS NOT NULL
           AND COALESCE(JSON_VALUE(@definition, '$.engine'), N'local') <> N'spark'
            SET @problems = @problems + N'@key_types: given, and the engine is '
                + COALESCE(JSON_VALUE(@definition, '$.engine'), N'local')
                + N'; allowed: with spark, which may have its rows somewhere else' + @line;

        -- What is read and what is written is an admin's to say: a run of a stronger caller, and the
        -- owner who writes, follow what is recorded here.
        IF USER_NAME() <> N'dbo' AND COALESCE(IS_ROLEMEMBER(N'sqlkmeans_admin'), 0) = 0
           AND COALESCE(IS_ROLEMEMBER(N'db_owner'), 0) = 0
        BEGIN
            IF @recorded IS NULL
                SET @problems = @problems + N'@segmentation: ' + COALESCE(@segmentation, N'NULL')
                    + N' is not registered, which takes the role sqlkmeans_admin' + @line;
            ELSE IF EXISTS (
                SELECT 1
                FROM OPENJSON(@definition) WITH (
                    source nvarchar(max) '$.source', [key] nvarchar(max) '$.key' AS JSON,
                    target nvarchar(max) '$.target', language nvarchar(max) '$.language',
                    engine nvarchar(32) '$.engine') AS n
                CROSS JOIN OPENJSON(@recorded) WITH (
                    source nvarchar(max) '$.source', [key] nvarchar(max) '$.key' AS JSON,
                    target nvarchar(max) '$.target', language nvarchar(max) '$.language',
                    engine nvarchar(32) '$.engine') AS r
                WHERE COALESCE(n.language, N'Python')
                      <> COALESCE(r.language, N'Python') COLLATE Latin1_General_100_BIN2
                   -- With Spark, the source may be somewhere else.
                   OR CASE n.engine WHEN N'spark' THEN 1 ELSE 0 END
                      <> CASE r.engine WHEN N'spark' THEN 1 ELSE 0 END
                   -- Of what is no source here, and may be Spark's, each letter counts.
                   OR COALESCE(sqlkmeans.relation(n.source), N'= ' + n.source, N'')
                      <> COALESCE(sqlkmeans.relation(r.source), N'= ' + r.source, N'')
                         COLLATE Latin1_General_100_BIN2
                   OR COALESCE(sqlkmeans.each_name(n.[key], N'{}', N', '), N'')
                      <> COALESCE(sqlkmeans.each_name(r.[key], N'{}', N', '), N'')
                         COLLATE Latin1_General_100_BIN2
                   OR COALESCE(sqlkmeans.quoted_name(n.target, N''), N'')
                      <> COALESCE(sqlkmeans.quoted_name(r.target, N''), N'')
                         COLLATE Latin1_General_100_BIN2)
                SET @problems = @problems + N'@definition: its source, key, target, language or engine '
                    + N'(spark or another) is not the one that is registered; to change them takes the '
                    + N'role sqlkmeans_admin' + @line;
        END;
    END;

    EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;
    EXECUTE sqlkmeans.take_lock @segmentation = @segmentation;

    BEGIN TRY
        BEGIN TRANSACTION;

        EXECUTE sqlkmeans.reclaim_runs @segmentation = @segmentation;

        -- A known segmentation takes its new definition when the run is published, not before.
        IF NOT EXISTS (SELECT 1 FROM sqlkmeans.segmentation AS g WHERE g.name = @segmentation)
            INSERT INTO sqlkmeans.segmentation
                (name, definition, target, last_segment_id, created_at, updated_at)
            VALUES
                (@segmentation, @definition, JSON_VALUE(@definition, '$.target'), 0, @now, @now);

        INSERT INTO sqlkmeans.run
            (segmentation, kind, status, engine, definition, started_at, sqlkmeans_version,
             library_versions, client)
        VALUES
            (@segmentation, @kind, N'running',
             COALESCE(@engine, JSON_VALUE(@definition, '$.engine'), N'local'), @definition, @now,
             COALESCE(@client_version, sqlkmeans.version()), @library_versions,
             LEFT(ORIGINAL_LOGIN() + COALESCE(N', ' + COALESCE(@client, APP_NAME()), N''), 400));
        SET @run_id = SCOPE_IDENTITY();

        -- A choice of k publishes no labels.
        IF @kind <> N'choose_k'
            EXECUTE sqlkmeans.create_staging
                @run_id = @run_id, @key = @key, @key_columns = @key_columns;

        COMMIT TRANSACTION;

        EXECUTE sqlkmeans.drop_parts @segmentation = @segmentation;
        -- Outside, because an error that the server turns into a row could doom the transaction.
        SELECT @source = j.source
        FROM OPENJSON(@definition) WITH (source nvarchar(max) '$.source') AS j;
        BEGIN TRY
            IF @key_types IS NULL
                EXECUTE sqlkmeans.warn_of_hidden_rows @run_id = @run_id, @source = @source;
        END TRY
        BEGIN CATCH
            SET @problems = N'row-level security was not looked at: ' + ERROR_MESSAGE();
            EXECUTE sqlkmeans.add_warning @run_id = @run_id, @warning = @problems;
        END CATCH;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1;
    END TRY
    BEGIN CATCH
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1;
        THROW;
    END CATCH;
END;
GO
