IF OBJECT_ID(N'sqlkmeans.create_staging', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.create_staging AS RETURN 0;');
GO
-- A run's staging table, which operators may fill and read. Names and types in @key_columns are
-- quoted by check_definition. A customer may be in it twice: as departed under the key that is
-- published, and under one that differs only where the collation does not look. Where
-- is_outlier is NULL, publishing tells by the distance.
ALTER PROCEDURE sqlkmeans.create_staging
    @run_id      bigint,
    @key         nvarchar(max),
    @key_columns nvarchar(max)
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @staging nvarchar(200) =
        N'sqlkmeans.' + QUOTENAME(N'staging_' + CAST(@run_id AS nvarchar(20)));
    DECLARE @statement nvarchar(max) = N'CREATE TABLE ' + @staging + N' (' + @key_columns
        + N'cluster int NOT NULL, distance float NOT NULL, departed bit NOT NULL DEFAULT (0), '
        + N'is_outlier bit NULL, '
        + N'PRIMARY KEY CLUSTERED (' + sqlkmeans.each_name(@key, N'{}', N', ') + N', departed));';

    EXECUTE sqlkmeans.as_owner @statement = @statement;
    SET @statement = N'GRANT SELECT, INSERT ON ' + @staging + N' TO sqlkmeans_operator;';
    EXECUTE sqlkmeans.as_owner @statement = @statement;
END;
GO
