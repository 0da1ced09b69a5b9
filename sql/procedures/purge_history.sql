IF OBJECT_ID(N'sqlkmeans.purge_history', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.purge_history AS RETURN 0;');
GO
-- Deletes, or counts, the labels of a target's history that ended before a moment; those that are
-- valid now stay. In batches, each a transaction of its own, which a caller rolls back where it fails:
-- below 5,000 rows the server keeps readers out of the rows alone and not of the whole table, and the
-- log can be cut between two. The index that finds them is made by the first purge, so that who never
-- purges need not keep it up to date.
ALTER PROCEDURE sqlkmeans.purge_history
    @target  nvarchar(1000),
    @then    datetime2(6),
    @execute bit    = 1,
    @rows    bigint = NULL OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @history nvarchar(1000) = sqlkmeans.quoted_name(@target, N'_history');
    DECLARE @hold nvarchar(max) = N'SELECT @arrived = COUNT_BIG(*) FROM (SELECT TOP (1) 1 AS one FROM '
        + @history + N' WITH (TABLOCK, HOLDLOCK)) AS t;';
    DECLARE @statement nvarchar(max);
    DECLARE @problems nvarchar(max);
    DECLARE @found bigint;

    SET @rows = 0;
    EXECUTE sqlkmeans.as_owner
        @statement = N'SET @arrived = OBJECT_ID(@text, N''U'');', @text = @history,
        @arrived = @found OUTPUT;
    IF @found IS NULL OR @then IS NULL
        RETURN 0;

    IF @execute = 0
    BEGIN
        SET @statement = N'SELECT @arrived = COUNT_BIG(*) FROM ' + @history
            + N' AS h WHERE h.valid_to < @then;';
        EXECUTE sqlkmeans.as_owner @statement = @statement, @then = @then, @arrived = @rows OUTPUT;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.check_target @target = @target, @problems = @problems OUTPUT;
    EXECUTE sqlkmeans.raise_problems @number = 50004, @problems = @problems;
    SET @statement = N'
IF NOT EXISTS (SELECT 1 FROM sys.indexes AS i
               WHERE i.object_id = OBJECT_ID(@text, N''U'') AND i.name LIKE N''ix_history_valid_to%'')
    CREATE INDEX ix_history_valid_to ON ' + @history + N' (valid_to);';
    EXECUTE sqlkmeans.as_owner @statement = @statement, @text = @history;

    SET @statement = N'DELETE TOP (4000) FROM ' + @history
        + N' WHERE valid_to < @then; SET @arrived = ROWCOUNT_BIG();';
    WHILE @found > 0
    BEGIN
        -- To the end of the transaction nobody can put anything on the table.
        BEGIN TRANSACTION;
        EXECUTE sqlkmeans.as_owner @statement = @hold, @arrived = @found OUTPUT;
        EXECUTE sqlkmeans.check_target @target = @target, @problems = @problems OUTPUT;
        EXECUTE sqlkmeans.raise_problems @number = 50004, @problems = @problems;
        EXECUTE sqlkmeans.as_owner @statement = @statement, @then = @then, @arrived = @found OUTPUT;
        COMMIT TRANSACTION;
        SET @rows = @rows + @found;
    END;
END;
GO
