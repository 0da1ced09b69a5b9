IF OBJECT_ID(N'sqlkmeans.lock_name', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.lock_name (@segmentation nvarchar(128))
        RETURNS nvarchar(255) AS BEGIN RETURN NULL; END;');
GO
-- The name of a segmentation's application lock. Such names are compared byte by byte, whatever the
-- collation of the names in the table. sys.dm_tran_locks shows the first 32 characters, so the
-- segmentation comes first; the database comes last, because not every server keeps the locks of
-- its databases apart.
ALTER FUNCTION sqlkmeans.lock_name (@segmentation nvarchar(128))
RETURNS nvarchar(255)
AS
BEGIN
    RETURN N'sqlkmeans:' + LOWER(@segmentation) + N':' + DB_NAME();
END;
GO
