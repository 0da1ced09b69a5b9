IF OBJECT_ID(N'sqlkmeans.reclaim_runs', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.reclaim_runs AS RETURN 0;');
GO
-- Closes what killed runs left. The caller holds the lock, so none of them is alive.
ALTER PROCEDURE sqlkmeans.reclaim_runs
    @segmentation nvarchar(128)
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @run_id bigint;

    WHILE 1 = 1
    BEGIN
        SET @run_id = NULL;
        SELECT @run_id = MIN(r.run_id)
        FROM sqlkmeans.run AS r
        WHERE r.segmentation = @segmentation AND r.status = N'running';

        IF @run_id IS NULL
            BREAK;

        EXECUTE sqlkmeans.drop_staging @run_id = @run_id;
        EXECUTE sqlkmeans.forget_model @run_id = @run_id;

        UPDATE sqlkmeans.run
        SET status = N'failed',
            error = N'interrupted: the process ended before it finished',
            finished_at = SYSUTCDATETIME()
        WHERE run_id = @run_id;
    END;
END;
GO
