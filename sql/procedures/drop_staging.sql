IF OBJECT_ID(N'sqlkmeans.drop_staging', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.drop_staging AS RETURN 0;');
GO
-- Drops a run's staging table, and the parts beside it.
ALTER PROCEDURE sqlkmeans.drop_staging
    @run_id bigint
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @staging nvarchar(100) = N'staging_' + CAST(@run_id AS nvarchar(20));
    DECLARE @statement nvarchar(max) = N'DROP TABLE IF EXISTS sqlkmeans.' + QUOTENAME(@staging)
        + N', sqlkmeans.' + QUOTENAME(@staging + N'_parts') + N';';

    EXECUTE sqlkmeans.as_owner @statement = @statement;
END;
GO
