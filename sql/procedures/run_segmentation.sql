IF OBJECT_ID(N'sqlkmeans.run_segmentation', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.run_segmentation AS RETURN 0;');
GO
-- Trains a segmentation inside the server and publishes it. Python gets row numbers instead of
-- keys, because a bigint would reach it rounded and most other types not at all.
ALTER PROCEDURE sqlkmeans.run_segmentation
    @segmentation nvarchar(128) = NULL,
    @definition   nvarchar(max) = NULL,
    @run_id       bigint        = NULL OUTPUT,
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
            (3, N'@run_id', N'bigint OUTPUT', N'NULL', N'The run.'),
            (4, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    DECLARE @problems nvarchar(max);
    DECLARE @source nvarchar(max);
    DECLARE @relation nvarchar(max);
    DECLARE @key nvarchar(max);
    DECLARE @key_columns nvarchar(max);
    DECLARE @columns nvarchar(max) = N'';
    DECLARE @added nvarchar(max) = N'';
    DECLARE @values nvarchar(max) = N'';
    DECLARE @target nvarchar(1000);
    DECLARE @target_id bigint;
    DECLARE @staging nvarchar(200);
    DECLARE @statement nvarchar(max);
    DECLARE @job nvarchar(max);
    DECLARE @publication nvarchar(max);
    DECLARE @active bigint;
    DECLARE @last_segment_id int;
    DECLARE @feature nvarchar(128);
    DECLARE @type nvarchar(16);
    DECLARE @f nvarchar(20);
    DECLARE @sample_weight nvarchar(128);
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

    SELECT @definition = COALESCE(@definition, g.definition), @active = g.active_run_id,
        @last_segment_id = g.last_segment_id
    FROM sqlkmeans.segmentation AS g
    WHERE g.name = @segmentation;

    IF @definition IS NULL OR ISJSON(@definition) = 0
    BEGIN
        SET @problems = N'@segmentation: ' + COALESCE(@segmentation, N'NULL')
            + N' given; allowed: a segmentation that define_segmentation has registered';
        EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;
    END;
    IF OBJECT_ID(N'sys.sp_execute_external_script') IS NULL
        EXECUTE sqlkmeans.raise_problems @number = 50004,
            @problems = N'this server runs no external scripts; train with the client: sqlkmeans run';

    SELECT @source = j.source, @sample_weight = j.sample_weight
    FROM OPENJSON(@definition) WITH (
        source nvarchar(max) '$.source', sample_weight nvarchar(max) '$.sample_weight') AS j;
    SET @relation = sqlkmeans.relation(@source);
    SET @key = JSON_QUERY(@definition, '$.key');
    SET @target = sqlkmeans.quoted_name(JSON_VALUE(@definition, '$.target'), N'');

    CREATE TABLE #input (row_number int NOT NULL PRIMARY KEY, previous_segment_id int NULL);
    CREATE TABLE #label
    (
        row_number int   NOT NULL PRIMARY KEY,
        cluster    int   NOT NULL,
        distance   float NOT NULL
    );
    CREATE TABLE #publication (content nvarchar(max) NULL);

    EXECUTE sqlkmeans.take_lock @segmentation = @segmentation;

    BEGIN TRY
        EXECUTE sqlkmeans.start_run
            @segmentation = @segmentation, @definition = @definition, @kind = N'fit',
            @engine = N'in_database',
            @run_id = @run_id OUTPUT;
        SET @staging = N'sqlkmeans.' + QUOTENAME(N'staging_' + CAST(@run_id AS nvarchar(20)));

        WHILE EXISTS (SELECT 1 FROM OPENJSON(@definition, '$.features') AS j
                      WHERE CAST(j.[key] AS int) = @position)
        BEGIN
            SELECT @feature = JSON_VALUE(j.[value], '$.column'),
                @type = COALESCE(JSON_VALUE(j.[value], '$.type'), N'number')
            FROM OPENJSON(@definition, '$.features') AS j
            WHERE CAST(j.[key] AS int) = @position;
            SET @position = @position + 1;
            SET @f = N'f' + CAST(@position AS nvarchar(10));
            SET @columns = @columns + N', ' + @f;
            -- A category with one letter more than a level may have, so that Python sees a text
            -- that is too long; a date as days since 1970.
            SET @added = @added + N'ALTER TABLE #input ADD ' + @f
                + CASE @type WHEN N'category' THEN N' nvarchar(101) NULL; ' ELSE N' float NULL; ' END;
            SET @values = @values + N', ' + CASE @type
                WHEN N'category' THEN N'CAST(s.' + QUOTENAME(@feature) + N' AS nvarchar(101))'
                WHEN N'date' THEN N'CAST(DATEDIFF(day, ''19700101'', CAST(s.' + QUOTENAME(@feature)
                    + N' AS date)) AS float)'
                ELSE N'CAST(s.' + QUOTENAME(@feature) + N' AS float)' END;
        END;
        IF @sample_weight IS NOT NULL
        BEGIN
            SET @columns = @columns + N', sample_weight';
            SET @added = @added + N'ALTER TABLE #input ADD sample_weight float NULL; ';
            SET @values = @values + N', CAST(s.' + QUOTENAME(@sample_weight) + N' AS float)';
        END;

        -- Columns that are added to a temporary table by a nested batch stay in it.
        EXECUTE sqlkmeans.describe_key
            @table = @staging, @key = @key, @key_columns = @key_columns OUTPUT,
            @before = N'ALTER TABLE #input ADD ', @after = N'; ';
        SET @statement = @key_columns + @added;
        EXECUTE sys.sp_executesql @statement;

        -- Reads the source as the caller, in key order: restarts depend on the order of rows.
        EXECUTE sqlkmeans.as_owner
            @statement = N'SET @arrived = OBJECT_ID(@text);', @text = @target,
            @arrived = @target_id OUTPUT;
        SET @statement = N'INSERT INTO #input (row_number, '
            + sqlkmeans.each_name(@key, N'{}', N', ') + N', previous_segment_id' + @columns
            + N') SELECT ROW_NUMBER() OVER (ORDER BY ' + sqlkmeans.each_name(@key, N's.{}', N', ')
            + N'), ' + sqlkmeans.each_name(@key, N's.{}', N', ') + N', '
            + CASE WHEN @target_id IS NULL THEN N'NULL' ELSE N'p.segment_id' END
            + @values + N' FROM ' + @relation
            + CASE WHEN @target_id IS NULL THEN N''
                   ELSE N' LEFT JOIN ' + @target + N' AS p ON '
                       + sqlkmeans.each_name(@key, N'p.{} = s.{}', N' AND ') END
            + N'; SET @total = ROWCOUNT_BIG();';
        EXECUTE sys.sp_executesql @statement, N'@total bigint OUTPUT', @total = @total OUTPUT;
        SET @seconds_read =
            CAST(DATEDIFF(millisecond, @begun, SYSUTCDATETIME()) / 1000.0 AS nvarchar(40));

        SET @job = N'{"run_id":' + CAST(@run_id AS nvarchar(20))
            + N',"last_segment_id":' + CAST(COALESCE(@last_segment_id, 0) AS nvarchar(10))
            + N',"reference_date":"' + CONVERT(nvarchar(10), CAST(@begun AS date), 23)
            + N'","definition":' + @definition
            + N',"model_feature":' + COALESCE((
                SELECT f.position, f.feature, f.transform, f.weight, f.center, f.scale, f.fill,
                    f.source_column, f.type, f.level, f.low, f.high, f.reference_date
                FROM sqlkmeans.model_feature AS f
                WHERE f.run_id = @active
                ORDER BY f.position
                FOR JSON PATH, INCLUDE_NULL_VALUES), N'[]')
            + N',"centroid":' + COALESCE((
                SELECT c.segment_id, c.position, c.scaled_value
                FROM sqlkmeans.centroid AS c
                WHERE c.run_id = @active
                FOR JSON PATH), N'[]')
            + N',"segment":' + COALESCE((
                SELECT s.segment_id, s.name
                FROM sqlkmeans.segment AS s
                WHERE s.run_id = @active AND s.segment_id > 0
                FOR JSON PATH), N'[]')
            + N',"given":' + COALESCE((
                SELECT s.segment_id, MAX(s.name) AS name
                FROM sqlkmeans.segment AS s
                INNER JOIN sqlkmeans.run AS r ON r.run_id = s.run_id
                WHERE r.segmentation = @segmentation AND s.name_source = N'given'
                GROUP BY s.segment_id
                FOR JSON PATH), N'[]')
            + N'}';

        -- As the owner, so that nobody has to be granted external scripts.
        SET @statement = N'
DECLARE @publication nvarchar(max);
INSERT INTO #label (row_number, cluster, distance)
EXECUTE sys.sp_execute_external_script
    @language = N''Python'',
    @script = N''
from sqlkmeans.external_script import run_segmentation

OutputDataSet, publication = run_segmentation(InputDataSet, job)
'',
    @input_data_1 = N''SELECT row_number, previous_segment_id' + @columns + N' FROM #input'',
    @params = N''@job nvarchar(max), @publication nvarchar(max) OUTPUT'',
    @job = @text,
    @publication = @publication OUTPUT;
INSERT INTO #publication (content) VALUES (@publication);
';
        EXECUTE sqlkmeans.as_owner @statement = @statement, @text = @job;
        SELECT @publication = p.content FROM #publication AS p;

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

        SET @statement = N'INSERT INTO ' + @staging + N' ('
            + sqlkmeans.each_name(@key, N'{}', N', ') + N', cluster, distance) SELECT '
            + sqlkmeans.each_name(@key, N'i.{}', N', ') + N', l.cluster, l.distance'
            + N' FROM #input AS i INNER JOIN #label AS l ON l.row_number = i.row_number;'
            + N' SET @rows = ROWCOUNT_BIG();';
        EXECUTE sys.sp_executesql @statement, N'@rows bigint OUTPUT', @rows = @rows OUTPUT;

        SET @publication = JSON_MODIFY(
            @publication, '$.run.seconds_read', CAST(@seconds_read AS float));
        EXECUTE sqlkmeans.publish_staged
            @run_id = @run_id, @publication = @publication, @arrived = @arrived OUTPUT,
            @moved = @moved OUTPUT, @departed = @departed OUTPUT, @written = @written OUTPUT;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1;
    END TRY
    BEGIN CATCH
        SET @error = ERROR_MESSAGE();
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        -- 39004: Python ended with an exception before or outside sqlkmeans.
        IF ERROR_NUMBER() = 39004
            SET @error = N'Python could not run sqlkmeans (is the package installed for the '
                + N'server''s Python? docs/deploy.md): ' + @error;
        IF EXISTS (SELECT 1 FROM sqlkmeans.run AS r WHERE r.run_id = @run_id)
            EXECUTE sqlkmeans.fail_run @run_id = @run_id, @error = @error;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1;
        IF ERROR_NUMBER() = 39004
            EXECUTE sqlkmeans.raise_problems @number = 50001, @problems = @error;
        THROW;
    END CATCH;

    SELECT @run_id AS run_id, @rows AS [rows], @total - @rows AS skipped, @arrived AS arrived,
        @moved AS moved, @departed AS departed, @written AS written;
END;
GO
