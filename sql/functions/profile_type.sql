IF OBJECT_ID(N'sqlkmeans.profile_type', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.profile_type (@type nvarchar(128)) RETURNS nvarchar(16)
        AS BEGIN RETURN NULL; END;');
GO
-- As what a profile column of a type is described; NULL for a type that is not.
ALTER FUNCTION sqlkmeans.profile_type (@type nvarchar(128))
RETURNS nvarchar(16)
AS
BEGIN
    RETURN CASE
        WHEN @type = N'bit' THEN N'boolean'
        WHEN @type IN (N'bigint', N'int', N'smallint', N'tinyint', N'decimal', N'numeric', N'money',
                       N'smallmoney', N'float', N'real') THEN N'number'
        WHEN @type IN (N'date', N'datetime', N'datetime2', N'smalldatetime', N'datetimeoffset')
            THEN N'date'
        WHEN @type IN (N'char', N'varchar', N'nchar', N'nvarchar', N'text', N'ntext')
            THEN N'category' END;
END;
GO
