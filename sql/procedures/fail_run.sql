IF OBJECT_ID(N'sqlkmeans.fail_run', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.fail_run AS RETURN 0;');
GO
-- Records a running run as failed and drops its staging table. A run that ended stays as it is. The
-- session that ran it may be gone for its client and still be publishing: so this waits for the lock,
-- and only then asks how the run stands.
ALTER PROCEDURE sqlkmeans.fail_run
    @run_id       bigint        = NULL,
    @error        nvarchar(max) = NULL,
    @wait_seconds int           = 60,
    @help         bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@run_id', N'bigint', N'NULL', N'The run that failed.'),
            (2, N'@error', N'nvarchar(max)', N'NULL', N'Why, for the run''s row.'),
            (3, N'@wait_seconds', N'int', N'60',
                N'How long to wait for another session that holds the segmentation, 0 to 3,600; then error 50005.'),
            (4, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @problems nvarchar(max) = N'';
    DECLARE @segmentation nvarchar(128);
    DECLARE @status nvarchar(16);
    DECLARE @kind nvarchar(16);
    DECLARE @wait int;

    -- A publication holds the row until it commits, and a run keeps its segmentation for good.
    SELECT @segmentation = r.segmentation
    FROM sqlkmeans.run AS r WITH (READUNCOMMITTED)
    WHERE r.run_id = @run_id;

    IF @segmentation IS NULL
        SET @problems = @problems + N'@run_id: ' + COALESCE(CAST(@run_id AS nvarchar(20)), N'NULL')
            + N' given; allowed: a run in sqlkmeans.run' + @line;
    IF @wait_seconds IS NULL OR @wait_seconds NOT BETWEEN 0 AND 3600
        SET @problems = @problems + N'@wait_seconds: '
            + COALESCE(CAST(@wait_seconds AS nvarchar(20)), N'NULL')
            + N' given; allowed: 0 to 3,600' + @line;
    EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;

    SET @wait = @wait_seconds * 1000 + 1;
    EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @wait = @wait;

    BEGIN TRY
        SELECT @status = r.status, @kind = r.kind FROM sqlkmeans.run AS r WHERE r.run_id = @run_id;

        IF @status = N'running'
        BEGIN
            EXECUTE sqlkmeans.drop_staging @run_id = @run_id;
            EXECUTE sqlkmeans.forget_model @run_id = @run_id;

            UPDATE sqlkmeans.run
            SET status = N'failed', error = COALESCE(@error, N'failed'),
                finished_at = SYSUTCDATETIME()
            WHERE run_id = @run_id;
            EXECUTE sqlkmeans.drop_parts @segmentation = @segmentation;
        END;
        ELSE IF @status = N'published' AND @kind = N'fit'
        BEGIN
            -- Its session may have ended between the commit and these two.
            EXECUTE sqlkmeans.refresh_function @segmentation = @segmentation, @run_id = @run_id;
            EXECUTE sqlkmeans.refresh_movement @run_id = @run_id;
        END;
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
