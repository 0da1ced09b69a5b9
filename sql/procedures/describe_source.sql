IF OBJECT_ID(N'sqlkmeans.describe_source', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.describe_source AS RETURN 0;');
GO
-- Fills the caller's table #sqlkmeans_source_column with the columns of a source, or says in @problem why
-- it has none. A SELECT is not run: it becomes a view for a moment, which the parser takes only
-- if it is one single SELECT.
ALTER PROCEDURE sqlkmeans.describe_source
    @source  nvarchar(max),
    @problem nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @relation nvarchar(max) = sqlkmeans.relation(@source);
    DECLARE @columns nvarchar(max);
    DECLARE @statement nvarchar(max);
    DECLARE @view nvarchar(200) =
        N'sqlkmeans.' + QUOTENAME(N'source_of_session_' + CAST(@@SPID AS nvarchar(10)));
    DECLARE @catalog nvarchar(200) = N'';

    SET @problem = NULL;

    IF @relation IS NULL
    BEGIN
        SET @problem = N'source: ' + COALESCE(LEFT(@source, 200), N'NULL')
            + N' given; allowed: a table, a view, or one SELECT';
        RETURN 0;
    END;

    SET @columns = N'
        INSERT INTO #sqlkmeans_source_column (position, name, type, max_length, [precision], scale, collation)
        SELECT c.column_id, c.name, t.name, c.max_length, c.[precision], c.scale, c.collation_name
        FROM {catalog}sys.columns AS c
        INNER JOIN {catalog}sys.types AS t ON t.user_type_id = c.system_type_id
        WHERE c.object_id = OBJECT_ID(@text);';

    BEGIN TRY
        IF LEFT(@relation, 1) = N'('
        BEGIN
            SET @statement = N'DROP VIEW IF EXISTS ' + @view + N';';
            EXECUTE sqlkmeans.as_owner @statement = @statement;
            SET @statement = N'CREATE VIEW ' + @view + N' AS SELECT * FROM ' + @relation;
            EXECUTE sqlkmeans.as_owner @statement = N'EXECUTE (@text);', @text = @statement;
            SET @statement = REPLACE(@columns, N'{catalog}', N'');
            EXECUTE sqlkmeans.as_owner @statement = @statement, @text = @view;
            SET @statement = N'DROP VIEW ' + @view + N';';
            EXECUTE sqlkmeans.as_owner @statement = @statement;
        END;
        ELSE
        BEGIN
            -- As the caller: who may not see the table finds no columns.
            SET @relation = sqlkmeans.quoted_name(@source, N'');
            IF PARSENAME(@source, 3) IS NOT NULL
                SET @catalog = QUOTENAME(PARSENAME(@source, 3)) + N'.';
            SET @statement = REPLACE(@columns, N'{catalog}', @catalog);
            EXECUTE sys.sp_executesql @statement, N'@text nvarchar(max)', @text = @relation;
        END;
    END TRY
    BEGIN CATCH
        SET @problem = N'source: ' + ERROR_MESSAGE();
        RETURN 0;
    END CATCH;

    IF NOT EXISTS (SELECT 1 FROM #sqlkmeans_source_column AS c)
        SET @problem = N'source: there is no table or view ' + @relation
            + N', or you may not read it';
END;
GO
