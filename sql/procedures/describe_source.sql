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
    DECLARE @described nvarchar(max);
    DECLARE @error nvarchar(max);

    SET @problem = sqlkmeans.source_problem(@source);
    -- As if for browsing, the server names the table behind a column; what cannot be browsed it
    -- describes without. Hidden are keys of such tables, which the source does not have.
    WHILE @problem IS NULL AND @browse >= 0 AND (@browse = 1 OR @error IS NOT NULL)
    BEGIN
        SET @described = (
            SELECT d.column_ordinal AS position, d.name, COALESCE(t.name, d.user_type_name, N'unknown') AS type,
                d.max_length, d.[precision], d.scale, d.collation_name,
                CASE WHEN d.source_server IS NULL AND d.source_database = DB_NAME()
                     THEN QUOTENAME(d.source_schema) + N'.' + QUOTENAME(d.source_table) END AS base_table,
                CASE WHEN d.source_server IS NULL AND d.source_database = DB_NAME()
                     THEN d.source_column END AS base_column, d.error_message
            FROM sys.dm_exec_describe_first_result_set(@query, NULL, @browse) AS d
            LEFT JOIN sys.types AS t ON t.user_type_id = d.system_type_id
            WHERE d.is_hidden = 0 OR d.error_number IS NOT NULL
            FOR JSON PATH);
        SELECT @error = MIN(j.error_message)
        FROM OPENJSON(@described) WITH (error_message nvarchar(max) '$.error_message') AS j;
        SET @browse = @browse - 1;
    END;
    IF @problem IS NULL
        SET @problem = COALESCE(@error, CASE WHEN @described IS NULL
            THEN N'it has no columns, or you may not read it' END);
    IF @problem IS NULL
        INSERT INTO #sqlkmeans_source_column
            (position, name, type, max_length, [precision], scale, collation, base_table, base_column,
             masked)
        SELECT j.position, j.name, j.type, j.max_length, j.[precision], j.scale, j.collation_name,
            j.base_table, j.base_column, 0
        FROM OPENJSON(@described) WITH (
            position int '$.position', name nvarchar(128) '$.name', type nvarchar(128) '$.type',
            max_length int '$.max_length', [precision] int '$.precision', scale int '$.scale',
            collation_name nvarchar(128) '$.collation_name', base_table nvarchar(300) '$.base_table',
            base_column nvarchar(128) '$.base_column') AS j;

    SET @problem = N'source: ' + @problem;
END;
GO
