IF OBJECT_ID(N'sqlkmeans.drop_parts', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.drop_parts AS RETURN 0;');
GO
-- Drops the heaps that create_parts made for runs of a segmentation that have ended. Who copies into one
-- holds its lock; a task that was given up may do so for long, and then the heap stays until the
-- segmentation's next run. The caller holds the segmentation's lock.
ALTER PROCEDURE sqlkmeans.drop_parts
    @segmentation nvarchar(128)
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @run_id bigint = 0;
    DECLARE @lock nvarchar(255);
    DECLARE @result int;
    DECLARE @statement nvarchar(max);

    WHILE 1 = 1
    BEGIN
        SELECT @run_id = MIN(r.run_id)
        FROM sqlkmeans.run AS r
        WHERE r.segmentation = @segmentation AND r.status <> N'running' AND r.run_id > @run_id
          AND OBJECT_ID(N'sqlkmeans.' + QUOTENAME(
                  N'staging_' + CAST(r.run_id AS nvarchar(20)) + N'_parts'), N'U') IS NOT NULL;
        IF @run_id IS NULL
            BREAK;

        SET @lock = N'sqlkmeans parts ' + CAST(@run_id AS nvarchar(20));
        EXECUTE @result = sys.sp_getapplock
            @Resource = @lock, @LockMode = N'Exclusive', @LockOwner = N'Session',
            @LockTimeout = 5000, @DbPrincipal = N'sqlkmeans_operator';
        IF @result >= 0
        BEGIN
            -- A copy has a session of its own, and may outlive the one that holds the lock: then the
            -- heap stays, and no run fails for it.
            BEGIN TRY
                SET @statement = N'SET LOCK_TIMEOUT 5000; DROP TABLE IF EXISTS sqlkmeans.'
                    + QUOTENAME(N'staging_' + CAST(@run_id AS nvarchar(20)) + N'_parts') + N';';
                EXECUTE sqlkmeans.as_owner @statement = @statement;
            END TRY
            BEGIN CATCH
                IF XACT_STATE() <> 0
                    ROLLBACK TRANSACTION;
            END CATCH;
            EXECUTE sys.sp_releaseapplock
                @Resource = @lock, @LockOwner = N'Session', @DbPrincipal = N'sqlkmeans_operator';
        END;
    END;
END;
GO
