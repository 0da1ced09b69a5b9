IF OBJECT_ID(N'sqlkmeans.drop_staging', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.drop_staging AS RETURN 0;');
GO
-- Drops a run's staging table.
ALTER PROCEDURE sqlkmeans.drop_staging
    @run_id bigint
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @statement nvarchar(max) = N'DROP TABLE IF EXISTS sqlkmeans.'
        + QUOTENAME(N'staging_' + CAST(@run_id AS nvarchar(20))) + N';';

    EXECUTE sqlkmeans.as_owner @statement = @statement;
END;
GO
