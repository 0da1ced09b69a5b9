IF OBJECT_ID(N'sqlkmeans.warn_of_hidden_rows', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.warn_of_hidden_rows AS RETURN 0;');
GO
-- Warns a run whose source stands on a table with row-level security: who may not see all of its
-- rows would publish that the others have departed.
ALTER PROCEDURE sqlkmeans.warn_of_hidden_rows
    @run_id bigint,
    @source nvarchar(max)
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @query nvarchar(max) = N'SELECT * FROM ' + sqlkmeans.relation(@source) + N';';
    DECLARE @table nvarchar(400) = N'';
    DECLARE @policies bigint;
    DECLARE @warning nvarchar(max);

    -- Not every server has row-level security.
    IF OBJECT_ID(N'sys.security_predicates') IS NULL
        RETURN 0;

    WHILE 1 = 1
    BEGIN
        -- As if for browsing, the server names the table behind a column.
        SELECT @table = MIN(b.name)
        FROM (SELECT QUOTENAME(d.source_schema) + N'.' + QUOTENAME(d.source_table) AS name
              FROM sys.dm_exec_describe_first_result_set(@query, NULL, 1) AS d
              WHERE d.source_server IS NULL AND d.source_database = DB_NAME()) AS b
        WHERE b.name > @table;
        IF @table IS NULL
            BREAK;

        EXECUTE sqlkmeans.as_owner
            @statement = N'
SELECT @arrived = COUNT_BIG(*)
FROM sys.security_predicates AS p
INNER JOIN sys.security_policies AS y ON y.object_id = p.object_id AND y.is_enabled = 1
WHERE p.target_object_id = OBJECT_ID(@text);',
            @text = @table, @arrived = @policies OUTPUT;
        IF @policies > 0
        BEGIN
            SET @warning = @table + N' has row-level security: rows that ' + ORIGINAL_LOGIN()
                + N' may not see count as departed';
            EXECUTE sqlkmeans.add_warning @run_id = @run_id, @warning = @warning;
        END;
    END;
END;
GO
