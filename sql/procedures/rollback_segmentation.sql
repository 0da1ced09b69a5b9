IF OBJECT_ID(N'sqlkmeans.rollback_segmentation', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.rollback_segmentation AS RETURN 0;');
GO
-- Brings labels and model back as they were after an earlier run, as a run of its own.
ALTER PROCEDURE sqlkmeans.rollback_segmentation
    @segmentation     nvarchar(128) = NULL,
    @run_id           bigint        = NULL,
    @client_version   nvarchar(64)  = NULL,
    @library_versions nvarchar(max) = NULL,
    @client           nvarchar(400) = NULL,
    @new_run_id       bigint        = NULL OUTPUT,
    @quiet            bit           = 0,
    @help             bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@segmentation', N'nvarchar(128)', N'NULL', N'The name of the segmentation.'),
            (2, N'@run_id', N'bigint', N'NULL',
                N'The published run whose labels and model come back; NULL takes the one before the current one.'),
            (3, N'@client_version', N'nvarchar(64)', N'NULL',
                N'The version of sqlkmeans that runs; NULL takes the one installed here.'),
            (4, N'@library_versions', N'nvarchar(max)', N'NULL', N'For the run''s row.'),
            (5, N'@client', N'nvarchar(400)', N'NULL',
                N'For the run''s row, behind the login; NULL records the program.'),
            (6, N'@new_run_id', N'bigint OUTPUT', N'NULL', N'The run that records the rollback.'),
            (7, N'@quiet', N'bit', N'0', N'1 gives no row back, for a procedure that calls this one.'),
            (8, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
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
    DECLARE @restored nvarchar(max);
    DECLARE @target nvarchar(1000);
    DECLARE @key nvarchar(max);
    DECLARE @engine nvarchar(32);
    DECLARE @current bigint;
    DECLARE @model_run_id bigint;
    DECLARE @then datetime2(6);
    DECLARE @now datetime2(6);
    DECLARE @k int;
    DECLARE @rows bigint;
    DECLARE @expected bigint;
    DECLARE @skipped bigint;
    DECLARE @segment_ids nvarchar(max);
    DECLARE @key_columns nvarchar(max);
    DECLARE @keys nvarchar(max);
    DECLARE @history nvarchar(1000);
    DECLARE @table nvarchar(1000);
    DECLARE @table_id bigint;
    DECLARE @staging nvarchar(200);
    DECLARE @same nvarchar(max);
    DECLARE @stood nvarchar(200) =
        N'h.valid_from <= @then AND (h.valid_to IS NULL OR h.valid_to > @then)';
    DECLARE @statement nvarchar(max);
    DECLARE @arrived bigint;
    DECLARE @moved bigint;
    DECLARE @departed bigint;
    DECLARE @written bigint;
    DECLARE @error nvarchar(max);

    SELECT @definition = g.definition FROM sqlkmeans.segmentation AS g WHERE g.name = @segmentation;
    -- Held from here on, so that no run or purge changes what is chosen now.
    IF @definition IS NOT NULL
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation;

    -- What stands now: the last published run or, after a rollback, the run that it restored.
    SELECT TOP (1) @current = COALESCE(r.restored_run_id, r.run_id)
    FROM sqlkmeans.run AS r
    WHERE r.segmentation = @segmentation AND r.status = N'published'
    ORDER BY r.published_at DESC;

    IF @run_id IS NULL
        SELECT @run_id = MAX(r.run_id)
        FROM sqlkmeans.run AS r
        WHERE r.segmentation = @segmentation AND r.status = N'published'
          AND r.kind <> N'rollback' AND r.run_id < @current;

    SELECT @restored = r.definition, @model_run_id = r.model_run_id, @then = r.published_at,
        @engine = r.engine, @k = r.k, @skipped = r.skipped, @expected = r.[rows]
    FROM sqlkmeans.run AS r
    WHERE r.run_id = @run_id AND r.segmentation = @segmentation AND r.status = N'published'
      AND r.kind <> N'rollback';

    IF @definition IS NULL
        SET @problems = @problems + N'@segmentation: ' + COALESCE(@segmentation, N'NULL')
            + N' given; allowed: the name of a segmentation in sqlkmeans.segmentation' + @line;
    ELSE IF @run_id IS NULL
        SET @problems = @problems + N'@run_id: there is no published run before the current one'
            + @line;
    ELSE IF @restored IS NULL
        SET @problems = @problems + N'@run_id: ' + CAST(@run_id AS nvarchar(20))
            + N' given; allowed: a published run, of kind fit or assign, of ' + @segmentation + @line;
    ELSE
    BEGIN
        IF sqlkmeans.quoted_name(JSON_VALUE(@restored, '$.target'), N'')
           <> sqlkmeans.quoted_name(JSON_VALUE(@definition, '$.target'), N'')
            SET @problems = @problems + N'@run_id: that run wrote to '
                + JSON_VALUE(@restored, '$.target') + N', and the target is now '
                + JSON_VALUE(@definition, '$.target') + @line;
        IF sqlkmeans.each_name(JSON_QUERY(@restored, '$.key'), N'{}', N', ')
           <> sqlkmeans.each_name(JSON_QUERY(@definition, '$.key'), N'{}', N', ')
            SET @problems = @problems + N'@run_id: that run had another key, '
                + JSON_QUERY(@restored, '$.key') + @line;
    END;

    IF @problems <> N'' AND @definition IS NOT NULL
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1;
    EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;

    SET @target = JSON_VALUE(@definition, '$.target');
    SET @key = JSON_QUERY(@definition, '$.key');
    SET @keys = sqlkmeans.each_name(@key, N'{}', N', ');
    SET @history = sqlkmeans.quoted_name(@target, N'_history');
    SET @table = sqlkmeans.quoted_name(@target, N'');
    SET @same = sqlkmeans.each_name(@key, N't.{} = h.{}', N' AND ');

    BEGIN TRY
        BEGIN TRANSACTION;

        EXECUTE sqlkmeans.reclaim_runs @segmentation = @segmentation;

        INSERT INTO sqlkmeans.run
            (segmentation, kind, status, engine, definition, restored_run_id, k, [rows], skipped,
             started_at, sqlkmeans_version, library_versions, client)
        VALUES
            (@segmentation, N'rollback', N'running', @engine, @restored, @run_id, @k, @expected,
             @skipped, SYSUTCDATETIME(), COALESCE(@client_version, sqlkmeans.version()), @library_versions,
             LEFT(ORIGINAL_LOGIN() + COALESCE(N', ' + COALESCE(@client, APP_NAME()), N''), 400));
        SET @new_run_id = SCOPE_IDENTITY();
        SET @staging = N'sqlkmeans.' + QUOTENAME(N'staging_' + CAST(@new_run_id AS nvarchar(20)));

        EXECUTE sqlkmeans.describe_key
            @table = @history, @key = @key, @key_columns = @key_columns OUTPUT;
        EXECUTE sqlkmeans.create_staging
            @run_id = @new_run_id, @key = @key, @key_columns = @key_columns;

        -- The run's row and its staging first: whoever looks at the runs need not wait for the rest.
        COMMIT TRANSACTION;
        BEGIN TRANSACTION;

        -- Of what stood then, only what differs from what stands, under the segment ids; own_ids makes
        -- each id stand for itself. Who is labelled now and was not then departs.
        EXECUTE sqlkmeans.as_owner
            @statement = N'SET @arrived = OBJECT_ID(@text);', @text = @table,
            @arrived = @table_id OUTPUT;
        SET @statement = N'SELECT @arrived = COUNT_BIG(*) FROM ' + @history + N' AS h WHERE ' + @stood + N';
INSERT INTO ' + @staging + N' WITH (TABLOCK) (' + @keys + N', cluster, distance, is_outlier)
SELECT ' + sqlkmeans.each_name(@key, N'h.{}', N', ') + N', h.segment_id, h.distance, h.is_outlier
FROM ' + @history + N' AS h
' + CASE WHEN @table_id IS NULL THEN N'WHERE ' + @stood + N';' ELSE N'LEFT JOIN ' + @table + N' AS t ON ' + @same + N'
WHERE ' + @stood + N'
  AND (t.segment_id IS NULL OR t.segment_id <> h.segment_id OR t.distance <> h.distance
       OR t.is_outlier <> h.is_outlier);
INSERT INTO ' + @staging + N' (' + @keys + N', cluster, distance, departed)
SELECT ' + sqlkmeans.each_name(@key, N't.{}', N', ') + N', 0, 0e0, 1
FROM ' + @table + N' AS t
WHERE NOT EXISTS (SELECT 1 FROM ' + @history + N' AS h WHERE ' + @same + N' AND ' + @stood + N');' END;
        EXECUTE sqlkmeans.as_owner
            @statement = @statement, @then = @then, @arrived = @rows OUTPUT;
        IF @rows <> @expected
        BEGIN
            SET @problems = N'run ' + CAST(@run_id AS nvarchar(20)) + N': it published '
                + CAST(@expected AS nvarchar(20)) + N' labels and the history still holds '
                + CAST(@rows AS nvarchar(20)) + N' of them, so it cannot come back';
            EXECUTE sqlkmeans.raise_problems @number = 50003, @problems = @problems;
        END;

        SET @now = sqlkmeans.publication_time(@segmentation);
        SELECT @segment_ids = sqlkmeans.own_ids(g.last_segment_id)
        FROM sqlkmeans.segmentation AS g
        WHERE g.name = @segmentation;

        EXECUTE sqlkmeans.apply_labels
            @segmentation = @segmentation, @target = @target, @key = @key, @run_id = @new_run_id,
            @segment_ids = @segment_ids, @now = @now, @tolerance = 0, @changes_only = 1,
            @arrived = @arrived OUTPUT, @moved = @moved OUTPUT, @departed = @departed OUTPUT,
            @written = @written OUTPUT;

        EXECUTE sqlkmeans.finish_run
            @segmentation = @segmentation, @run_id = @new_run_id, @model_run_id = @model_run_id,
            @now = @now, @arrived = @arrived, @moved = @moved, @departed = @departed,
            @written = @written;

        COMMIT TRANSACTION;

        EXECUTE sqlkmeans.refresh_function @segmentation = @segmentation, @run_id = @new_run_id;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1;
    END TRY
    BEGIN CATCH
        SET @error = ERROR_MESSAGE();
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        IF EXISTS (SELECT 1 FROM sqlkmeans.run AS r WHERE r.run_id = @new_run_id)
            EXECUTE sqlkmeans.fail_run @run_id = @new_run_id, @error = @error;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1;
        THROW;
    END CATCH;

    IF @quiet = 0
        SELECT @new_run_id AS run_id, @run_id AS restored_run_id, @arrived AS arrived,
            @moved AS moved, @departed AS departed, @written AS written;
END;
GO
