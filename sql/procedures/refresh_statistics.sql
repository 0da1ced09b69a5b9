IF OBJECT_ID(N'sqlkmeans.refresh_statistics', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.refresh_statistics AS RETURN 0;');
GO
-- A switch counts as no change of a row, so the optimizer would plan by the statistics of the
-- earlier labels. Where this fails, the run stays published and gets a warning.
ALTER PROCEDURE sqlkmeans.refresh_statistics
    @run_id bigint,
    @target nvarchar(1000)
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @statement nvarchar(max) =
        N'UPDATE STATISTICS ' + sqlkmeans.quoted_name(@target, N'') + N';';

    BEGIN TRY
        EXECUTE sqlkmeans.as_owner @statement = @statement;
    END TRY
    BEGIN CATCH
        SET @statement = N'the statistics of the segment table were not updated: ' + ERROR_MESSAGE();
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        EXECUTE sqlkmeans.add_warning @run_id = @run_id, @warning = @statement;
    END CATCH;
END;
GO
