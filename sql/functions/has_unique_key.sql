IF OBJECT_ID(N'sqlkmeans.has_unique_key', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.has_unique_key (@source nvarchar(max), @key nvarchar(max))
        RETURNS bit AS BEGIN RETURN 0; END;');
GO
-- Whether the server itself sees to it that one statement reads each key of a source once, and none
-- that is NULL: a table of this database with a unique index on columns of the key, which are never
-- NULL, where readers get row versions. With locks alone a row that an update moves ahead of the scan
-- is read twice, whatever its index.
ALTER FUNCTION sqlkmeans.has_unique_key
(
    @source nvarchar(max),
    @key    nvarchar(max)
)
RETURNS bit
AS
BEGIN
    DECLARE @relation nvarchar(max) = sqlkmeans.relation(@source);
    DECLARE @table_id int = NULL;
    DECLARE @result bit = 0;

    -- A query stands in parentheses.
    IF LEFT(@relation, 1) = N'['
    BEGIN
        SET @relation = LEFT(@relation, LEN(@relation) - LEN(N' AS s'));
        IF PARSENAME(@relation, 3) IS NULL
            SET @table_id = OBJECT_ID(@relation, N'U');
    END;

    IF NOT EXISTS (SELECT 1 FROM OPENJSON(@key) AS j
                   WHERE COALESCE(COLUMNPROPERTY(@table_id, CAST(j.[value] AS nvarchar(128)), N'AllowsNull'), 1) = 1)
        SELECT @result = 1
        FROM sys.databases AS d
        WHERE d.name = DB_NAME() AND d.is_read_committed_snapshot_on = 1 AND EXISTS (
            SELECT 1
            FROM sys.indexes AS i
            WHERE i.object_id = @table_id AND i.is_unique = 1 AND i.is_disabled = 0
              AND i.has_filter = 0 AND i.is_hypothetical = 0 AND i.type IN (1, 2, 7)
              AND NOT EXISTS (
                  SELECT 1
                  FROM sys.index_columns AS x
                  WHERE x.object_id = i.object_id AND x.index_id = i.index_id AND x.key_ordinal > 0
                    AND NOT EXISTS (
                        SELECT 1 FROM OPENJSON(@key) AS j
                        WHERE COLUMNPROPERTY(@table_id, CAST(j.[value] AS nvarchar(128)), N'ColumnId')
                            = x.column_id)));

    RETURN @result;
END;
GO
