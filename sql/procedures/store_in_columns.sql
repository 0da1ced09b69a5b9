IF OBJECT_ID(N'sqlkmeans.store_in_columns', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.store_in_columns AS RETURN 0;');
GO
-- Gives an empty temporary table of the caller a clustered columnstore index, so that a statement
-- reads in batches and only what it names. Where the server or its tempdb has none, the table stays
-- as it is, and so does one so wide that the index would ask for a gigabyte of memory: 4 MB a column
-- and thread, rows or none.
ALTER PROCEDURE sqlkmeans.store_in_columns
    @table nvarchar(128)
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @statement nvarchar(max) =
        N'CREATE CLUSTERED COLUMNSTORE INDEX sqlkmeans_columns ON ' + @table + N' WITH (MAXDOP = 1);';

    IF OBJECT_ID(N'sys.column_store_segments') IS NULL
       OR 200 < (SELECT COUNT(*) FROM tempdb.sys.columns AS c
                 WHERE c.object_id = OBJECT_ID(N'tempdb..' + @table))
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
