IF OBJECT_ID(N'sqlkmeans.expire_history', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.expire_history AS RETURN 0;');
GO
-- Keeps the history as long as the definition's history_days say, after a run was published and under
-- its lock. Where that fails, the run stays published and gets a warning; the next run tries again.
ALTER PROCEDURE sqlkmeans.expire_history
    @run_id bigint
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @target nvarchar(1000);
    DECLARE @days int;
    DECLARE @then datetime2(6);
    DECLARE @warning nvarchar(max);

    SELECT @target = JSON_VALUE(r.definition, '$.target'),
        @days = TRY_CAST(JSON_VALUE(r.definition, '$.history_days') AS int)
    FROM sqlkmeans.run AS r
    WHERE r.run_id = @run_id;
    IF @days IS NULL
        RETURN 0;

    BEGIN TRY
        SET @then = DATEADD(day, -@days, SYSUTCDATETIME());
        EXECUTE sqlkmeans.purge_history @target = @target, @then = @then;
    END TRY
    BEGIN CATCH
        SET @warning = N'history_days: the history was not purged: ' + ERROR_MESSAGE();
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        EXECUTE sqlkmeans.add_warning @run_id = @run_id, @warning = @warning;
    END CATCH;
END;
GO
