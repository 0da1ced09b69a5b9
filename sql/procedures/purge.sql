IF OBJECT_ID(N'sqlkmeans.purge', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.purge AS RETURN 0;');
GO
-- Deletes old runs with their models, and old labels from the history. What is published now, and the
-- models that kept runs use, always stay. One segmentation at a time, under its lock.
ALTER PROCEDURE sqlkmeans.purge
    @segmentation nvarchar(128) = NULL,
    @keep_days    int           = 365,
    @history      bit           = 0,
    @execute      bit           = 1,
    @quiet        bit           = 0,
    @help         bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@segmentation', N'nvarchar(128)', N'NULL',
                N'One segmentation; NULL takes all that are not being run.'),
            (2, N'@keep_days', N'int', N'365', N'Runs that ended in so many days stay, 1 to 36,500.'),
            (3, N'@history', N'bit', N'0',
                N'1 deletes labels from the history too that ended before then; those that ended before history_days always go.'),
            (4, N'@execute', N'bit', N'1', N'0 shows what would be deleted and deletes nothing.'),
            (5, N'@quiet', N'bit', N'0', N'1 gives no row back, for a procedure that calls this one.'),
            (6, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @problems nvarchar(max) = N'';
    DECLARE @now datetime2(6) = SYSUTCDATETIME();
    DECLARE @before datetime2(6);
    DECLARE @then datetime2(6);
    DECLARE @name nvarchar(128) = N'';
    DECLARE @definition nvarchar(max);
    DECLARE @target nvarchar(1000);
    DECLARE @days int;
    DECLARE @rows bigint;
    DECLARE @runs bigint = 0;
    DECLARE @history_rows bigint = 0;
    DECLARE @busy nvarchar(max);

    IF @segmentation IS NOT NULL
       AND NOT EXISTS (SELECT 1 FROM sqlkmeans.segmentation AS g WHERE g.name = @segmentation)
        SET @problems = @problems + N'@segmentation: ' + @segmentation
            + N' given; allowed: the name of a segmentation in sqlkmeans.segmentation' + @line;
    IF @keep_days IS NULL OR @keep_days NOT BETWEEN 1 AND 36500
        SET @problems = @problems + N'@keep_days: ' + COALESCE(CAST(@keep_days AS nvarchar(20)), N'NULL')
            + N' given; allowed: 1 to 36,500' + @line;
    EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;

    SET @before = DATEADD(day, -@keep_days, @now);
    CREATE TABLE #sqlkmeans_old (run_id bigint NOT NULL PRIMARY KEY);

    WHILE 1 = 1
    BEGIN
        SET @definition = NULL;
        SELECT TOP (1) @name = g.name, @definition = g.definition, @target = g.target
        FROM sqlkmeans.segmentation AS g
        WHERE g.name > @name AND (@segmentation IS NULL OR g.name = @segmentation)
        ORDER BY g.name;
        IF @definition IS NULL
            BREAK;

        BEGIN TRY
            -- To look at it takes no lock.
            IF @execute = 1
            BEGIN
                EXECUTE sqlkmeans.take_lock @segmentation = @name;
                EXECUTE sqlkmeans.reclaim_runs @segmentation = @name;
                EXECUTE sqlkmeans.drop_parts @segmentation = @name;
            END;

            DELETE FROM #sqlkmeans_old;
            INSERT INTO #sqlkmeans_old (run_id)
            SELECT r.run_id
            FROM sqlkmeans.run AS r
            INNER JOIN sqlkmeans.segmentation AS g ON g.name = r.segmentation
            WHERE r.segmentation = @name
              AND r.status <> N'running'
              AND r.finished_at < @before
              AND r.run_id <> COALESCE(g.active_run_id, 0)
              -- A heap that somebody still writes into is found by its run.
              AND OBJECT_ID(N'sqlkmeans.' + QUOTENAME(N'staging_' + CAST(r.run_id AS nvarchar(20)) + N'_parts'),
                      N'U') IS NULL
              AND (r.published_at IS NULL OR r.published_at <
                   (SELECT MAX(l.published_at) FROM sqlkmeans.run AS l
                    WHERE l.segmentation = @name AND l.status = N'published'));

            DELETE o
            FROM #sqlkmeans_old AS o
            INNER JOIN sqlkmeans.run AS r ON o.run_id = r.model_run_id OR o.run_id = r.restored_run_id
            WHERE r.segmentation = @name
              AND r.run_id <> o.run_id
              AND NOT EXISTS (SELECT 1 FROM #sqlkmeans_old AS p WHERE p.run_id = r.run_id);

            SELECT @rows = COUNT_BIG(*) FROM #sqlkmeans_old AS o;
            SET @runs = @runs + @rows;
            IF @execute = 1 AND @rows > 0
                EXECUTE sqlkmeans.delete_runs;

            SET @days = TRY_CAST(JSON_VALUE(@definition, '$.history_days') AS int);
            SET @then = DATEADD(day, -@days, @now);
            IF @history = 1 AND (@then IS NULL OR @then < @before)
                SET @then = @before;
            EXECUTE sqlkmeans.purge_history
                @target = @target, @then = @then, @execute = @execute, @rows = @rows OUTPUT;
            SET @history_rows = @history_rows + @rows;

            IF @execute = 1
                EXECUTE sqlkmeans.take_lock @segmentation = @name, @release = 1;
        END TRY
        BEGIN CATCH
            IF XACT_STATE() <> 0
                ROLLBACK TRANSACTION;
            -- One that is being run keeps nobody else's past.
            IF @segmentation IS NULL AND ERROR_NUMBER() = 50005
                SET @busy = COALESCE(@busy + N', ', N'') + @name;
            ELSE
            BEGIN
                EXECUTE sqlkmeans.take_lock @segmentation = @name, @release = 1;
                THROW;
            END;
        END CATCH;
    END;

    IF @quiet = 0
        SELECT CASE WHEN @execute = 1 THEN N'deleted' ELSE N'would be deleted' END AS outcome,
            @runs AS runs, @history_rows AS history_rows, @before AS before, @busy AS busy;
END;
GO
