IF OBJECT_ID(N'sqlkmeans.describe_source', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.describe_source AS RETURN 0;');
GO
-- Fills the caller's table #sqlkmeans_source_column with the columns of a source, or says in @problem
-- why it has none. Nothing is run, and all of it is asked as the caller, so that nobody learns or
-- reads through this what they may not. Where a column can be traced to a table, masked says that
-- the caller sees it masked.
ALTER PROCEDURE sqlkmeans.describe_source
    @source  nvarchar(max),
    @problem nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @query nvarchar(max) = N'SELECT * FROM ' + sqlkmeans.relation(@source) + N';';

    CREATE TABLE #sqlkmeans_masked
    (
        table_name  nvarchar(300) COLLATE DATABASE_DEFAULT NOT NULL,
        column_name nvarchar(128) COLLATE DATABASE_DEFAULT NOT NULL
    );

    SET @problem = sqlkmeans.source_problem(@source);
    IF @problem IS NULL
        SELECT @problem = MIN(d.error_message)
        FROM sys.dm_exec_describe_first_result_set(@query, NULL, 0) AS d
        WHERE d.error_number IS NOT NULL;
    -- As the owner: who reads a view need not see the table behind it, and sees it masked all the same.
    EXECUTE sqlkmeans.as_owner @statement = N'
INSERT INTO #sqlkmeans_masked (table_name, column_name)
SELECT QUOTENAME(s.name) + N''.'' + QUOTENAME(o.name), c.name
FROM sys.columns AS c
INNER JOIN sys.objects AS o ON o.object_id = c.object_id
INNER JOIN sys.schemas AS s ON s.schema_id = o.schema_id
WHERE c.is_masked = 1;';
    IF @problem IS NULL
        INSERT INTO #sqlkmeans_source_column
            (position, name, type, max_length, [precision], scale, collation, masked)
        SELECT d.column_ordinal, d.name, COALESCE(t.name, d.user_type_name, N'unknown'),
            d.max_length, d.[precision], d.scale, d.collation_name,
            CASE WHEN m.table_name IS NOT NULL
                  AND COALESCE(HAS_PERMS_BY_NAME(
                          m.table_name, N'OBJECT', N'UNMASK', m.column_name, N'COLUMN'), 0) = 0
                  AND COALESCE(HAS_PERMS_BY_NAME(NULL, N'DATABASE', N'UNMASK'), 0) = 0
                 THEN 1 ELSE 0 END
        FROM sys.dm_exec_describe_first_result_set(@query, NULL, 0) AS d
        LEFT JOIN sys.types AS t ON t.user_type_id = d.system_type_id
        -- The same once more as if for browsing: then it names the table behind a column.
        LEFT JOIN sys.dm_exec_describe_first_result_set(@query, NULL, 1) AS b
            ON b.column_ordinal = d.column_ordinal AND b.source_database = DB_NAME()
        LEFT JOIN #sqlkmeans_masked AS m
            ON m.table_name = QUOTENAME(b.source_schema) + N'.' + QUOTENAME(b.source_table)
                COLLATE DATABASE_DEFAULT
           AND m.column_name = b.source_column COLLATE DATABASE_DEFAULT;
    IF @problem IS NULL AND NOT EXISTS (SELECT 1 FROM #sqlkmeans_source_column AS c)
        SET @problem = N'it has no columns, or you may not read it';

    SET @problem = N'source: ' + @problem;
END;
GO
