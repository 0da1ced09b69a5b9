IF OBJECT_ID(N'sqlkmeans.create_side_tables', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.create_side_tables AS RETURN 0;');
GO
-- Two empty tables that the segment table can be switched with, beside a run's staging table: _new
-- takes the new labels, _old the earlier ones. @made is 0 where the table cannot be switched.
ALTER PROCEDURE sqlkmeans.create_side_tables
    @run_id     bigint,
    @definition nvarchar(max),
    @made       bit OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @table nvarchar(1000) =
        sqlkmeans.quoted_name(JSON_VALUE(@definition, '$.target'), N'');
    DECLARE @key nvarchar(max) = JSON_QUERY(@definition, '$.key');
    DECLARE @staging nvarchar(100) = N'staging_' + CAST(@run_id AS nvarchar(20));
    DECLARE @new nvarchar(200) = N'sqlkmeans.' + QUOTENAME(@staging + N'_new');
    DECLARE @old nvarchar(200) = N'sqlkmeans.' + QUOTENAME(@staging + N'_old');
    DECLARE @typed nvarchar(max);
    DECLARE @columns nvarchar(max);
    DECLARE @statement nvarchar(max);
    DECLARE @free bigint;

    EXECUTE sqlkmeans.as_owner
        @statement = N'SET @arrived = CASE WHEN sqlkmeans.switch_obstacle(@text) IS NULL THEN 1 ELSE 0 END;',
        @text = @definition, @arrived = @free OUTPUT;
    SET @made = @free;
    IF @made = 0
        RETURN 0;

    -- In the same filegroup and compressed alike, or the switch is refused.
    CREATE TABLE #place (storage nvarchar(400) COLLATE DATABASE_DEFAULT NOT NULL);
    EXECUTE sqlkmeans.as_owner
        @statement = N'
INSERT INTO #place (storage)
SELECT CASE p.data_compression WHEN 1 THEN N'' WITH (DATA_COMPRESSION = ROW)''
        WHEN 2 THEN N'' WITH (DATA_COMPRESSION = PAGE)'' ELSE N'''' END
    + N'') ON '' + QUOTENAME(s.name)
FROM sys.indexes AS i
INNER JOIN sys.partitions AS p ON p.object_id = i.object_id AND p.index_id = i.index_id
INNER JOIN sys.data_spaces AS s ON s.data_space_id = i.data_space_id
WHERE i.object_id = OBJECT_ID(@text) AND i.index_id <= 1;',
        @text = @table;
    EXECUTE sqlkmeans.describe_key @table = @table, @key = @key, @key_columns = @typed OUTPUT;

    SELECT @columns = N' (' + @typed
        + N'segment_id int NOT NULL, distance float NOT NULL, run_id bigint NOT NULL, '
        + N'assigned_at datetime2(6) NOT NULL, PRIMARY KEY CLUSTERED ('
        + sqlkmeans.each_name(@key, N'{}', N', ') + N')' + p.storage + N';'
    FROM #place AS p;
    -- A publication that is tried again finds those of its first attempt.
    SET @statement = N'DROP TABLE IF EXISTS ' + @new + N', ' + @old + N';' + NCHAR(10)
        + N'CREATE TABLE ' + @new + @columns + NCHAR(10) + N'CREATE TABLE ' + @old + @columns;
    EXECUTE sqlkmeans.as_owner @statement = @statement;
END;
GO
