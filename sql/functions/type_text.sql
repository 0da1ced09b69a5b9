IF OBJECT_ID(N'sqlkmeans.type_text', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.type_text (@type nvarchar(128), @max_length int,
        @precision int, @scale int, @collation nvarchar(128)) RETURNS nvarchar(400)
        AS BEGIN RETURN N''''; END;');
GO
-- A column's type as CREATE TABLE writes it; NULL where it cannot be a key.
ALTER FUNCTION sqlkmeans.type_text
(
    @type       nvarchar(128),
    @max_length int,
    @precision  int,
    @scale      int,
    @collation  nvarchar(128)
)
RETURNS nvarchar(400)
AS
BEGIN
    IF @max_length = -1
        RETURN NULL;

    RETURN CASE
        WHEN @type IN (N'bigint', N'int', N'smallint', N'tinyint', N'bit', N'money', N'smallmoney',
                       N'date', N'datetime', N'smalldatetime', N'uniqueidentifier')
            THEN @type
        WHEN @type IN (N'decimal', N'numeric')
            THEN @type + N'(' + CAST(@precision AS nvarchar(5)) + N', '
                + CAST(@scale AS nvarchar(5)) + N')'
        WHEN @type IN (N'datetime2', N'datetimeoffset', N'time')
            THEN @type + N'(' + CAST(@scale AS nvarchar(5)) + N')'
        WHEN @type IN (N'binary', N'varbinary')
            THEN @type + N'(' + CAST(@max_length AS nvarchar(5)) + N')'
        WHEN @type IN (N'char', N'varchar')
            THEN @type + N'(' + CAST(@max_length AS nvarchar(5)) + N') COLLATE ' + @collation
        WHEN @type IN (N'nchar', N'nvarchar')
            THEN @type + N'(' + CAST(@max_length / 2 AS nvarchar(5)) + N') COLLATE ' + @collation
    END;
END;
GO
