IF OBJECT_ID(N'sqlkmeans.run_segmentation', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.run_segmentation AS RETURN 0;');
GO
-- Trains a segmentation inside the server, with Python or without, and publishes it. Python gets
-- row numbers instead of keys, because a bigint would reach it rounded and most other types not at
-- all.
ALTER PROCEDURE sqlkmeans.run_segmentation
    @segmentation nvarchar(128) = NULL,
    @definition   nvarchar(max) = NULL,
    @engine       nvarchar(32)  = NULL,
    @run_id       bigint        = NULL OUTPUT,
    @quiet        bit           = 0,
    @help         bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@segmentation', N'nvarchar(128)', N'NULL',
                N'A registered segmentation; the caller must be able to read its source.'),
            (2, N'@definition', N'nvarchar(max)', N'NULL',
                N'Its definition as JSON; NULL takes the one that is recorded.'),
            (3, N'@engine', N'nvarchar(32)', N'NULL',
                N'in_database trains with Python in the server, tsql in T-SQL alone; NULL: the definition''s, or in_database.'),
            (4, N'@run_id', N'bigint OUTPUT', N'NULL', N'The run.'),
            (5, N'@quiet', N'bit', N'0', N'1 gives no row back, for a procedure that calls this one.'),
            (6, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @problems nvarchar(max);
    DECLARE @key nvarchar(max);
    DECLARE @columns nvarchar(max);
    DECLARE @staging nvarchar(200);
    DECLARE @labels nvarchar(max);
    DECLARE @kept bigint;
    DECLARE @statement nvarchar(max);
    DECLARE @job nvarchar(max);
    DECLARE @publication nvarchar(max);
    DECLARE @position int = 0;
    DECLARE @rows bigint;
    DECLARE @total bigint;
    DECLARE @code int;
    DECLARE @arrived bigint;
    DECLARE @moved bigint;
    DECLARE @departed bigint;
    DECLARE @written bigint;
    DECLARE @error nvarchar(max);
    DECLARE @begun datetime2(6) = SYSUTCDATETIME();
    DECLARE @seconds_read nvarchar(40);

    SELECT @definition = COALESCE(@definition, g.definition)
    FROM sqlkmeans.segmentation AS g
    WHERE g.name = @segmentation;

    IF @definition IS NULL OR ISJSON(@definition) = 0
    BEGIN
        SET @problems = N'@segmentation: ' + COALESCE(@segmentation, N'NULL')
            + N' given; allowed: a segmentation that define_segmentation has registered';
        EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;
    END;
    SET @engine = LOWER(COALESCE(@engine, CASE JSON_VALUE(@definition, '$.engine')
                                              WHEN N'tsql' THEN N'tsql' ELSE N'in_database' END));
    IF @engine NOT IN (N'in_database', N'tsql')
    BEGIN
        SET @problems = N'@engine: ' + @engine + N' given; allowed: in_database, tsql';
        EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;
    END;
    IF @engine = N'in_database' AND OBJECT_ID(N'sys.sp_execute_external_script') IS NULL
        EXECUTE sqlkmeans.raise_problems @number = 50004,
            @problems = N'this server runs no external scripts; train with @engine = N''tsql'', or with the client: sqlkmeans run';
    IF @engine = N'tsql' AND TRY_CAST(JSON_VALUE(@definition, '$.k') AS int) IS NULL
    BEGIN
        SET @problems = N'k: ' + COALESCE(JSON_VALUE(@definition, '$.k'), N'NULL')
            + N' given; allowed where T-SQL trains: a number, such as sqlkmeans choose-k recommends';
        EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;
    END;
    IF @engine = N'tsql' AND TRY_CAST(JSON_VALUE(@definition, '$.trim') AS float) > 0
    BEGIN
        SET @problems = N'trim: ' + JSON_VALUE(@definition, '$.trim')
            + N' needs to look at rows, and engine tsql sees sums; use local or in_database';
        EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;
    END;
    SET @key = JSON_QUERY(@definition, '$.key');

    CREATE TABLE #sqlkmeans_input
    (
        [sqlkmeans row]      int    NOT NULL,
        [sqlkmeans place]    bigint NOT NULL,
        [sqlkmeans previous] int    NULL,
        [sqlkmeans before]   float  NULL,
        [sqlkmeans flagged]  bit    NULL,
        [sqlkmeans weight]   float  NULL
    );
    CREATE TABLE #sqlkmeans_label
    (
        row_number int   NOT NULL PRIMARY KEY,
        cluster    int   NOT NULL,
        distance   float NOT NULL
    );
    CREATE TABLE #sqlkmeans_cluster_id (cluster int NOT NULL PRIMARY KEY, segment_id int NOT NULL);
    CREATE TABLE #sqlkmeans_publication (content nvarchar(max) COLLATE DATABASE_DEFAULT NULL);

    EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @keep = 1;

    BEGIN TRY
        EXECUTE sqlkmeans.start_run
            @segmentation = @segmentation, @definition = @definition, @kind = N'fit',
            @engine = @engine,
            @run_id = @run_id OUTPUT;
        SET @staging = N'sqlkmeans.' + QUOTENAME(N'staging_' + CAST(@run_id AS nvarchar(20)));

        EXECUTE sqlkmeans.read_source
            @definition = @definition, @staging = @staging, @columns = @columns OUTPUT,
            @total = @total OUTPUT;
        SET @seconds_read =
            CAST(DATEDIFF(millisecond, @begun, SYSUTCDATETIME()) / 1000.0 AS nvarchar(40));

        IF @engine = N'tsql'
            EXECUTE sqlkmeans.label_rows
                @run_id = @run_id, @medians = 1, @total = @total OUTPUT, @publication = @publication OUTPUT;
        ELSE
        BEGIN
            EXECUTE sqlkmeans.check_keys @relation = N'#sqlkmeans_input AS s', @key = @key;
            EXECUTE sqlkmeans.job_text
                @run_id = @run_id, @reference_date = @begun, @job = @job OUTPUT;

            -- As the owner, so that nobody has to be granted external scripts.
            SET @statement = N'
DECLARE @publication nvarchar(max);
DECLARE @language nvarchar(128) = COALESCE(JSON_VALUE(@text, ''$.definition.language''), N''Python'');
INSERT INTO #sqlkmeans_label (row_number, cluster, distance)
EXECUTE sys.sp_execute_external_script
    @language = @language,
    @script = N''
from sqlkmeans.external_script import run_segmentation

OutputDataSet, publication = run_segmentation(InputDataSet, job)
'',
    @input_data_1 = N''SELECT [sqlkmeans row] AS row_number, [sqlkmeans previous] AS previous_segment_id' + @columns + N' FROM #sqlkmeans_input'',
    @params = N''@job nvarchar(max), @publication nvarchar(max) OUTPUT'',
    @job = @text,
    @publication = @publication OUTPUT;
INSERT INTO #sqlkmeans_publication (content) VALUES (@publication);
';
            EXECUTE sqlkmeans.as_owner @statement = @statement, @text = @job;
            SELECT @publication = p.content FROM #sqlkmeans_publication AS p;
        END;

        IF JSON_QUERY(@publication, '$.error') IS NOT NULL OR @publication IS NULL
        BEGIN
            SET @problems = N'';
            SET @position = 0;
            WHILE EXISTS (SELECT 1 FROM OPENJSON(@publication, '$.error.problems') AS j
                          WHERE CAST(j.[key] AS int) = @position)
            BEGIN
                SELECT @problems = @problems + j.[value] + NCHAR(10)
                FROM OPENJSON(@publication, '$.error.problems') AS j
                WHERE CAST(j.[key] AS int) = @position;
                SET @position = @position + 1;
            END;
            IF @problems = N''
                SET @problems = N'Python gave no publication back';
            SET @code = 50000 + COALESCE(TRY_CAST(JSON_VALUE(@publication, '$.error.code') AS int), 1);
            EXECUTE sqlkmeans.raise_problems @number = @code, @problems = @problems;
        END;

        IF @engine = N'in_database'
        BEGIN
            SELECT @kept = COUNT_BIG(*)
            FROM #sqlkmeans_input AS i
            INNER JOIN #sqlkmeans_label AS l ON l.row_number = i.[sqlkmeans row]
            WHERE i.[sqlkmeans previous] IS NOT NULL;
            INSERT INTO #sqlkmeans_cluster_id (cluster, segment_id)
            SELECT CAST(j.[key] AS int), CAST(j.[value] AS int)
            FROM OPENJSON(@publication, '$.segment_ids') AS j;
            SET @labels = N'SELECT ' + sqlkmeans.each_name(@key, N'i.{}', N', ') + N', c.segment_id,
    l.distance, i.[sqlkmeans previous], i.[sqlkmeans before], i.[sqlkmeans flagged]
FROM #sqlkmeans_label AS l
INNER JOIN #sqlkmeans_cluster_id AS c ON c.cluster = l.cluster
INNER JOIN #sqlkmeans_input AS i ON i.[sqlkmeans row] = l.row_number';
            EXECUTE sqlkmeans.profile_columns
                @definition = @definition, @labels = @labels, @medians = 1,
                @publication = @publication OUTPUT;
            EXECUTE sqlkmeans.stage_changes
                @run_id = @run_id, @definition = @definition, @publication = @publication OUTPUT,
                @labels = @labels, @kept = @kept;
        END;
        SET @rows = CAST(JSON_VALUE(@publication, '$.run.rows') AS bigint);

        SET @publication = JSON_MODIFY(
            @publication, '$.run.seconds_read', CAST(@seconds_read AS float));
        EXECUTE sqlkmeans.publish_staged
            @run_id = @run_id, @publication = @publication, @arrived = @arrived OUTPUT,
            @moved = @moved OUTPUT, @departed = @departed OUTPUT, @written = @written OUTPUT;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1, @keep = 1;
    END TRY
    BEGIN CATCH
        SET @error = ERROR_MESSAGE();
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        -- Python did not start (39012), or ended before or outside sqlkmeans: 39004, and then 39019
        -- with what it said. Of several errors this is the last.
        IF ERROR_NUMBER() IN (39004, 39012, 39019)
            SET @error = N'Python could not run sqlkmeans (is the package installed for the '
                + N'server''s Python? docs/deploy.md): ' + @error;
        IF EXISTS (SELECT 1 FROM sqlkmeans.run AS r WHERE r.run_id = @run_id)
            EXECUTE sqlkmeans.fail_run @run_id = @run_id, @error = @error;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1, @keep = 1;
        IF ERROR_NUMBER() IN (39004, 39012, 39019)
            EXECUTE sqlkmeans.raise_problems @number = 50001, @problems = @error;
        THROW;
    END CATCH;

    IF @quiet = 0
        SELECT @run_id AS run_id, @rows AS [rows], @total - @rows AS skipped, @arrived AS arrived,
            @moved AS moved, @departed AS departed, @written AS written;
END;
GO
