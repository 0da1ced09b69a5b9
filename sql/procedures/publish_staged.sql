IF OBJECT_ID(N'sqlkmeans.publish_staged', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.publish_staged AS RETURN 0;');
GO
-- What publish_run does, without a result set, for procedures that publish as their last step.
ALTER PROCEDURE sqlkmeans.publish_staged
    @run_id      bigint,
    @publication nvarchar(max),
    @arrived     bigint = NULL OUTPUT,
    @moved       bigint = NULL OUTPUT,
    @departed    bigint = NULL OUTPUT,
    @written     bigint = NULL OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @problems nvarchar(max) = N'';
    DECLARE @segmentation nvarchar(128);
    DECLARE @definition nvarchar(max);
    DECLARE @status nvarchar(16);
    DECLARE @kind nvarchar(16);
    DECLARE @run nvarchar(max);
    DECLARE @model_run_id bigint;
    DECLARE @last_segment_id int;
    DECLARE @tolerance float;
    DECLARE @target nvarchar(1000);
    DECLARE @key nvarchar(max);
    DECLARE @segment_ids nvarchar(max);
    DECLARE @expected bigint;
    DECLARE @staged bigint;
    DECLARE @changes_only bit;
    DECLARE @statement nvarchar(max);
    DECLARE @now datetime2(6);
    DECLARE @begun datetime2(6) = SYSUTCDATETIME();

    SELECT @segmentation = r.segmentation, @definition = r.definition, @status = r.status,
        @kind = r.kind
    FROM sqlkmeans.run AS r
    WHERE r.run_id = @run_id;

    IF @segmentation IS NULL
        SET @problems = @problems + N'@run_id: ' + COALESCE(CAST(@run_id AS nvarchar(20)), N'NULL')
            + N' given; allowed: a run in sqlkmeans.run' + @line;
    ELSE IF @status <> N'running'
        SET @problems = @problems + N'@run_id: run ' + CAST(@run_id AS nvarchar(20)) + N' is '
            + @status + N'; allowed: a running one' + @line;

    IF @publication IS NULL OR ISJSON(@publication) = 0
        SET @problems = @problems + N'@publication: '
            + CASE WHEN @publication IS NULL THEN N'missing' ELSE N'not JSON' END
            + N'; allowed: a JSON object' + @line;
    ELSE
    BEGIN
        SELECT @run = j.run, @segment_ids = j.segment_ids, @model_run_id = j.model_run_id,
            @last_segment_id = j.last_segment_id, @tolerance = j.distance_tolerance,
            @expected = j.staged_rows, @changes_only = COALESCE(j.changes_only, 0)
        FROM OPENJSON(@publication) WITH (
            run                nvarchar(max) '$.run' AS JSON,
            segment_ids        nvarchar(max) '$.segment_ids' AS JSON,
            model_run_id       bigint        '$.model_run_id',
            last_segment_id    int           '$.last_segment_id',
            distance_tolerance float         '$.distance_tolerance',
            staged_rows        bigint        '$.staged_rows',
            changes_only       bit           '$.changes_only'
        ) AS j;
        IF @expected IS NULL AND @changes_only = 0
            SET @expected = TRY_CAST(JSON_VALUE(@run, '$.rows') AS bigint);

        IF @segment_ids IS NULL
            SET @problems = @problems
                + N'@publication: segment_ids is missing; allowed: a list of segment ids' + @line;
        IF @model_run_id IS NULL
            SET @problems = @problems + N'@publication: model_run_id is missing' + @line;
        ELSE IF NOT EXISTS (SELECT 1 FROM sqlkmeans.run AS r
                            WHERE r.run_id = @model_run_id AND r.segmentation = @segmentation)
            SET @problems = @problems + N'@publication: model_run_id ' + CAST(@model_run_id AS nvarchar(20))
                + N' is no run of ' + COALESCE(@segmentation, N'it') + @line;
        IF @last_segment_id IS NULL
            SET @problems = @problems + N'@publication: last_segment_id is missing' + @line;
        IF @expected IS NULL
            SET @problems = @problems + N'@publication: '
                + CASE WHEN @changes_only = 1 THEN N'staged_rows' ELSE N'run.rows' END
                + N' is missing' + @line;
        IF @changes_only = 1 AND JSON_QUERY(@publication, '$.tables.segment') IS NULL
            SET @problems = @problems + N'@publication: tables.segment is missing; the sizes of '
                + N'the segments tell whether the changes were all' + @line;
    END;

    EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;

    SET @target = JSON_VALUE(@definition, '$.target');
    SET @key = JSON_QUERY(@definition, '$.key');
    SET @statement = N'SELECT @arrived = COUNT_BIG(*) FROM sqlkmeans.'
        + QUOTENAME(N'staging_' + CAST(@run_id AS nvarchar(20))) + N';';
    EXECUTE sqlkmeans.take_lock @segmentation = @segmentation;

    BEGIN TRY
        BEGIN TRANSACTION;

        EXECUTE sqlkmeans.as_owner @statement = @statement, @arrived = @staged OUTPUT;
        IF @staged <> @expected
        BEGIN
            SET @problems = CAST(@expected AS nvarchar(20)) + N' labels were sent and '
                + CAST(@staged AS nvarchar(20)) + N' arrived; nothing was published';
            EXECUTE sqlkmeans.raise_problems @number = 50004, @problems = @problems;
        END;

        SET @now = sqlkmeans.publication_time(@segmentation);
        EXECUTE sqlkmeans.apply_labels
            @segmentation = @segmentation, @target = @target, @key = @key, @run_id = @run_id,
            @segment_ids = @segment_ids, @now = @now, @tolerance = @tolerance,
            @changes_only = @changes_only, @publication = @publication, @arrived = @arrived OUTPUT,
            @moved = @moved OUTPUT, @departed = @departed OUTPUT, @written = @written OUTPUT;
        IF @changes_only = 1
            EXECUTE sqlkmeans.check_sizes @target = @target, @publication = @publication;
        EXECUTE sqlkmeans.store_result @run_id = @run_id, @publication = @publication;

        UPDATE sqlkmeans.segmentation
        SET definition = @definition, target = @target, last_segment_id = @last_segment_id
        WHERE name = @segmentation;

        EXECUTE sqlkmeans.finish_run
            @segmentation = @segmentation, @run_id = @run_id, @model_run_id = @model_run_id,
            @now = @now, @arrived = @arrived, @moved = @moved, @departed = @departed,
            @written = @written;

        UPDATE sqlkmeans.run
        SET seconds_publish = COALESCE(
                seconds_publish, DATEDIFF(millisecond, @begun, SYSUTCDATETIME()) / 1e3),
            seconds_total = COALESCE(
                seconds_total, DATEDIFF_BIG(millisecond, started_at, SYSUTCDATETIME()) / 1e3)
        WHERE run_id = @run_id;

        COMMIT TRANSACTION;
    END TRY
    BEGIN CATCH
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1;
        THROW;
    END CATCH;

    BEGIN TRY
        IF @kind = N'fit'
        BEGIN
            EXECUTE sqlkmeans.refresh_function @segmentation = @segmentation, @run_id = @run_id;
            EXECUTE sqlkmeans.refresh_movement @run_id = @run_id;
        END;
        EXECUTE sqlkmeans.expire_history @run_id = @run_id;
        EXECUTE sqlkmeans.drop_parts @segmentation = @segmentation;
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
