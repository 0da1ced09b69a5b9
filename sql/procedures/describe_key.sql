IF OBJECT_ID(N'sqlkmeans.describe_key', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.describe_key AS RETURN 0;');
GO
-- The key columns of a table of this database with their types, as CREATE TABLE writes them, or
-- with other words before and after each.
ALTER PROCEDURE sqlkmeans.describe_key
    @table       nvarchar(1000),
    @key         nvarchar(max),
    @key_columns nvarchar(max) OUTPUT,
    @before      nvarchar(100) = N'',
    @after       nvarchar(100) = N' NOT NULL, '
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @name nvarchar(128);
    DECLARE @position int = 0;

    CREATE TABLE #sqlkmeans_table_column
    (
        name nvarchar(128) COLLATE DATABASE_DEFAULT NOT NULL,
        type nvarchar(400) COLLATE DATABASE_DEFAULT NULL
    );
    DECLARE @statement nvarchar(max) = N'
        INSERT INTO #sqlkmeans_table_column (name, type)
        SELECT c.name,
            sqlkmeans.type_text(TYPE_NAME(c.system_type_id), c.max_length, c.[precision], c.scale, c.collation_name)
        FROM sys.columns AS c
        WHERE c.object_id = OBJECT_ID(@text);';
    EXECUTE sqlkmeans.as_owner @statement = @statement, @text = @table;

    SET @key_columns = N'';
    WHILE EXISTS (SELECT 1 FROM OPENJSON(@key) AS j WHERE CAST(j.[key] AS int) = @position)
    BEGIN
        SELECT @name = j.[value] FROM OPENJSON(@key) AS j WHERE CAST(j.[key] AS int) = @position;
        SELECT @key_columns = @key_columns + @before + QUOTENAME(@name) + N' ' + c.type
            + @after
        FROM #sqlkmeans_table_column AS c
        WHERE c.name = @name;
        SET @position = @position + 1;
    END;
END;
GO
