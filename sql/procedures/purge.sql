IF OBJECT_ID(N'sqlkmeans.purge', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.purge AS RETURN 0;');
GO
-- Deletes old runs with their models. What is published now, and the models that kept runs use,
-- always stay.
ALTER PROCEDURE sqlkmeans.purge
    @segmentation nvarchar(128) = NULL,
    @keep_days    int           = 365,
    @history      bit           = 0,
    @execute      bit           = 1,
    @help         bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@segmentation', N'nvarchar(128)', N'NULL', N'One segmentation; NULL takes all.'),
            (2, N'@keep_days', N'int', N'365', N'Runs that ended in so many days stay, 1 or more.'),
            (3, N'@history', N'bit', N'0',
                N'1 deletes labels from the history too that ended before then.'),
            (4, N'@execute', N'bit', N'1', N'0 shows what would be deleted and deletes nothing.'),
            (5, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @problems nvarchar(max) = N'';
    DECLARE @before datetime2(6);
    DECLARE @name nvarchar(128) = N'';
    DECLARE @target nvarchar(400);
    DECLARE @table nvarchar(1000);
    DECLARE @statement nvarchar(max);
    DECLARE @history_id bigint;
    DECLARE @rows bigint;
    DECLARE @history_rows bigint = 0;

    IF @segmentation IS NOT NULL
       AND NOT EXISTS (SELECT 1 FROM sqlkmeans.segmentation AS g WHERE g.name = @segmentation)
        SET @problems = @problems + N'@segmentation: ' + @segmentation
            + N' given; allowed: the name of a segmentation in sqlkmeans.segmentation' + @line;
    IF @keep_days IS NULL OR @keep_days < 1
        SET @problems = @problems + N'@keep_days: ' + COALESCE(CAST(@keep_days AS nvarchar(20)), N'NULL')
            + N' given; allowed: 1 or more' + @line;
    EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;

    SET @before = DATEADD(day, -@keep_days, SYSUTCDATETIME());

    CREATE TABLE #sqlkmeans_old (run_id bigint NOT NULL PRIMARY KEY);
    INSERT INTO #sqlkmeans_old (run_id)
    SELECT r.run_id
    FROM sqlkmeans.run AS r
    INNER JOIN sqlkmeans.segmentation AS g ON g.name = r.segmentation
    WHERE r.status <> N'running'
      AND r.finished_at < @before
      AND (@segmentation IS NULL OR g.name = @segmentation)
      AND r.run_id <> COALESCE(g.active_run_id, 0)
      AND (r.published_at IS NULL OR r.published_at <
           (SELECT MAX(l.published_at) FROM sqlkmeans.run AS l WHERE l.segmentation = r.segmentation));

    DELETE o
    FROM #sqlkmeans_old AS o
    INNER JOIN sqlkmeans.run AS r ON o.run_id = r.model_run_id OR o.run_id = r.restored_run_id
    WHERE r.run_id <> o.run_id
      AND NOT EXISTS (SELECT 1 FROM #sqlkmeans_old AS p WHERE p.run_id = r.run_id);

    BEGIN TRY
        BEGIN TRANSACTION;

        IF @execute = 1
        BEGIN
            DELETE t FROM sqlkmeans.k_score AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
            DELETE t FROM sqlkmeans.feature_drift AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
            DELETE t FROM sqlkmeans.feature_bin AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
            DELETE t FROM sqlkmeans.typical_customer AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
            DELETE t FROM sqlkmeans.segment_feature AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
            DELETE t FROM sqlkmeans.segment AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
            DELETE t FROM sqlkmeans.centroid AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
            DELETE t FROM sqlkmeans.model_feature AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
            DELETE t FROM sqlkmeans.run AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
        END;

        WHILE @history = 1
        BEGIN
            SET @target = NULL;
            SELECT TOP (1) @name = g.name, @target = g.target
            FROM sqlkmeans.segmentation AS g
            WHERE g.name > @name AND (@segmentation IS NULL OR g.name = @segmentation)
            ORDER BY g.name;
            IF @target IS NULL
                BREAK;

            SET @table = sqlkmeans.quoted_name(@target, N'_history');
            EXECUTE sqlkmeans.as_owner
                @statement = N'SET @arrived = OBJECT_ID(@text);', @text = @table,
                @arrived = @history_id OUTPUT;
            IF @history_id IS NOT NULL
            BEGIN
                SET @statement = CASE WHEN @execute = 1
                    THEN N'DELETE FROM ' + @table + N' WHERE valid_to < @then; SET @arrived = ROWCOUNT_BIG();'
                    ELSE N'SELECT @arrived = COUNT_BIG(*) FROM ' + @table + N' WHERE valid_to < @then;' END;
                EXECUTE sqlkmeans.as_owner
                    @statement = @statement, @then = @before, @arrived = @rows OUTPUT;
                SET @history_rows = @history_rows + @rows;
            END;
        END;

        COMMIT TRANSACTION;
    END TRY
    BEGIN CATCH
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        THROW;
    END CATCH;

    SELECT CASE WHEN @execute = 1 THEN N'deleted' ELSE N'would be deleted' END AS outcome,
        (SELECT COUNT(*) FROM #sqlkmeans_old AS o) AS runs, @history_rows AS history_rows, @before AS before;
END;
GO
