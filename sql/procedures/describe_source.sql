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
    DECLARE @browse int = 1;

    SET @problem = sqlkmeans.source_problem(@source);
    -- As if for browsing, the server names the table behind a column; what cannot be browsed it
    -- describes without. Hidden are keys of such tables, which the source does not have.
    WHILE @problem IS NULL AND @browse >= 0 AND NOT EXISTS (SELECT 1 FROM #sqlkmeans_source_column AS c)
    BEGIN
        INSERT INTO #sqlkmeans_source_column
            (position, name, type, max_length, [precision], scale, collation, base_table, base_column,
             masked)
        SELECT d.column_ordinal, d.name, COALESCE(t.name, d.user_type_name, N'unknown'),
            d.max_length, d.[precision], d.scale, d.collation_name,
            CASE WHEN d.source_server IS NULL AND d.source_database = DB_NAME()
                 THEN QUOTENAME(d.source_schema) + N'.' + QUOTENAME(d.source_table) END,
            CASE WHEN d.source_server IS NULL AND d.source_database = DB_NAME()
                 THEN d.source_column END, 0
        FROM sys.dm_exec_describe_first_result_set(@query, NULL, @browse) AS d
        LEFT JOIN sys.types AS t ON t.user_type_id = d.system_type_id
        WHERE d.error_number IS NULL AND d.is_hidden = 0;
        SET @browse = @browse - 1;
    END;
    IF @problem IS NULL AND @browse < 0 AND NOT EXISTS (SELECT 1 FROM #sqlkmeans_source_column AS c)
        SELECT @problem = COALESCE(MIN(d.error_message), N'it has no columns, or you may not read it')
        FROM sys.dm_exec_describe_first_result_set(@query, NULL, 0) AS d
        WHERE d.error_number IS NOT NULL;

    SET @problem = N'source: ' + @problem;
END;
GO
