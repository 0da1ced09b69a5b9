IF OBJECT_ID(N'sqlkmeans.describe_source', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.describe_source AS RETURN 0;');
GO
-- Fills the caller's table #sqlkmeans_source_column with the columns of a source, or says in @problem
-- why it has none. Nothing is run, and all of it is asked as the caller, so that nobody learns or
-- reads through this what they may not. Where a column can be traced to a table, it is named.
ALTER PROCEDURE sqlkmeans.describe_source
    @source  nvarchar(max),
    @problem nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @query nvarchar(max) = N'SELECT * FROM ' + sqlkmeans.relation(@source) + N';';

    SET @problem = sqlkmeans.source_problem(@source);
    IF @problem IS NULL
        SELECT @problem = MIN(d.error_message)
        FROM sys.dm_exec_describe_first_result_set(@query, NULL, 0) AS d
        WHERE d.error_number IS NOT NULL;
    IF @problem IS NULL
        INSERT INTO #sqlkmeans_source_column
            (position, name, type, max_length, [precision], scale, collation, base_table, base_column,
             masked)
        SELECT d.column_ordinal, d.name, COALESCE(t.name, d.user_type_name, N'unknown'),
            d.max_length, d.[precision], d.scale, d.collation_name,
            QUOTENAME(b.source_schema) + N'.' + QUOTENAME(b.source_table), b.source_column, 0
        FROM sys.dm_exec_describe_first_result_set(@query, NULL, 0) AS d
        LEFT JOIN sys.types AS t ON t.user_type_id = d.system_type_id
        -- The same once more as if for browsing: then it names the table behind a column.
        LEFT JOIN sys.dm_exec_describe_first_result_set(@query, NULL, 1) AS b
            ON b.column_ordinal = d.column_ordinal AND b.source_database = DB_NAME()
        WHERE d.error_number IS NULL;
    IF @problem IS NULL AND NOT EXISTS (SELECT 1 FROM #sqlkmeans_source_column AS c)
        SET @problem = N'it has no columns, or you may not read it';

    SET @problem = N'source: ' + @problem;
END;
GO
