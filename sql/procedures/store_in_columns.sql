IF OBJECT_ID(N'sqlkmeans.store_in_columns', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.store_in_columns AS RETURN 0;');
GO
-- Gives an empty temporary table of the caller a clustered columnstore index, so that a statement
-- reads in batches and only what it names. Where the server or its tempdb has none, the table stays
-- as it is.
ALTER PROCEDURE sqlkmeans.store_in_columns
    @table nvarchar(128)
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @statement nvarchar(max) =
        N'CREATE CLUSTERED COLUMNSTORE INDEX sqlkmeans_columns ON ' + @table + N';';

    IF OBJECT_ID(N'sys.column_store_segments') IS NULL
        RETURN 0;
    BEGIN TRY
        EXECUTE sys.sp_executesql @statement;
    END TRY
    BEGIN CATCH
        IF XACT_STATE() = -1
            THROW;
    END CATCH;
END;
GO
