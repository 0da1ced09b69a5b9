IF OBJECT_ID(N'sqlkmeans.create_segment_table', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.create_segment_table AS RETURN 0;');
GO
-- Makes what is missing of a segmentation's table, its history and its view with names. Where
-- only one of table and history is there, the other is brought in line with it. Runs in the caller's
-- transaction, to whose end nobody else can put anything on them.
ALTER PROCEDURE sqlkmeans.create_segment_table
    @segmentation nvarchar(128),
    @target       nvarchar(1000),
    @key          nvarchar(max),
    @staging      nvarchar(200),
    @now          datetime2(6)
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @table nvarchar(1000) = sqlkmeans.quoted_name(@target, N'');
    DECLARE @history nvarchar(1000) = sqlkmeans.quoted_name(@target, N'_history');
    DECLARE @named nvarchar(1000) = sqlkmeans.quoted_name(@target, N'_named');
    DECLARE @keys nvarchar(max) = sqlkmeans.each_name(@key, N'{}', N', ');
    DECLARE @typed nvarchar(max);
    DECLARE @problems nvarchar(max);
    DECLARE @statement nvarchar(max);
    DECLARE @table_id bigint;
    DECLARE @history_id bigint;
    DECLARE @named_id bigint;

    -- As the owner, who sees every object. OBJECT_ID is NULL where there is none.
    SET @statement = N'SELECT @arrived = OBJECT_ID(N''' + REPLACE(@table, N'''', N'''''')
        + N'''), @moved = OBJECT_ID(N''' + REPLACE(@history, N'''', N'''''')
        + N'''), @departed = OBJECT_ID(N''' + REPLACE(@named, N'''', N'''''') + N''');';
    EXECUTE sqlkmeans.as_owner
        @statement = @statement, @arrived = @table_id OUTPUT, @moved = @history_id OUTPUT,
        @departed = @named_id OUTPUT;

    SET @statement = COALESCE(N'SELECT @arrived = COUNT_BIG(*) FROM (SELECT TOP (1) 1 AS one FROM '
        + CASE WHEN @table_id IS NOT NULL THEN @table END + N' WITH (TABLOCK, HOLDLOCK)) AS t;', N'')
        + COALESCE(N'SELECT @arrived = COUNT_BIG(*) FROM (SELECT TOP (1) 1 AS one FROM '
        + CASE WHEN @history_id IS NOT NULL THEN @history END + N' WITH (TABLOCK, HOLDLOCK)) AS t;', N'');
    IF @statement <> N''
        EXECUTE sqlkmeans.as_owner @statement = @statement;
    EXECUTE sqlkmeans.check_target @target = @target, @problems = @problems OUTPUT;
    EXECUTE sqlkmeans.raise_problems @number = 50004, @problems = @problems;

    IF @table_id IS NULL OR @history_id IS NULL
        EXECUTE sqlkmeans.describe_key
            @table = @staging, @key = @key, @key_columns = @typed OUTPUT;

    IF @history_id IS NULL
    BEGIN
        SET @statement = N'CREATE TABLE ' + @history + N' (' + @typed
            + N'segment_id int NOT NULL, distance float NOT NULL, is_outlier bit NOT NULL, '
            + N'valid_from datetime2(6) NOT NULL, '
            + N'valid_to datetime2(6) NULL, run_id bigint NOT NULL, PRIMARY KEY CLUSTERED ('
            + @keys + N', valid_from));';
        EXECUTE sqlkmeans.as_owner @statement = @statement;
        EXECUTE sqlkmeans.mark_object
            @segmentation = @segmentation, @target = @target, @suffix = N'_history', @kind = N'TABLE';

        IF @table_id IS NOT NULL
        BEGIN
            -- The table outlived its history: start the history from its labels.
            SET @statement = N'INSERT INTO ' + @history + N' (' + @keys
                + N', segment_id, distance, is_outlier, valid_from, valid_to, run_id) SELECT ' + @keys
                + N', segment_id, distance, is_outlier, assigned_at, NULL, run_id FROM ' + @table + N';';
            EXECUTE sqlkmeans.as_owner @statement = @statement;
        END;
    END;

    IF @table_id IS NULL
    BEGIN
        SET @statement = N'UPDATE ' + @history + N' SET valid_to = @now WHERE valid_to IS NULL;';
        EXECUTE sqlkmeans.as_owner @statement = @statement, @now = @now;
        SET @statement = N'CREATE TABLE ' + @table + N' (' + @typed
            + N'segment_id int NOT NULL, distance float NOT NULL, is_outlier bit NOT NULL, '
            + N'run_id bigint NOT NULL, '
            + N'assigned_at datetime2(6) NOT NULL, PRIMARY KEY CLUSTERED (' + @keys + N'));';
        EXECUTE sqlkmeans.as_owner @statement = @statement;
        EXECUTE sqlkmeans.mark_object
            @segmentation = @segmentation, @target = @target, @suffix = N'', @kind = N'TABLE';
    END;

    IF @named_id IS NULL
    BEGIN
        SET @statement = N'CREATE VIEW ' + @named + N' AS SELECT '
            + sqlkmeans.each_name(@key, N't.{}', N', ')
            + N', t.segment_id, t.distance, t.is_outlier, t.run_id, t.assigned_at, s.name AS segment_name FROM '
            + @table + N' AS t INNER JOIN sqlkmeans.segmentation AS g ON g.name = N'''
            + REPLACE(@segmentation, N'''', N'''''')
            + N''' LEFT JOIN sqlkmeans.segment AS s'
            + N' ON s.run_id = g.active_run_id AND s.segment_id = t.segment_id;';
        EXECUTE sqlkmeans.as_owner @statement = N'EXECUTE (@text);', @text = @statement;
        EXECUTE sqlkmeans.mark_object
            @segmentation = @segmentation, @target = @target, @suffix = N'_named', @kind = N'VIEW';
    END;
END;
GO
