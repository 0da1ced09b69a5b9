IF OBJECT_ID(N'sqlkmeans.drop_segmentation', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.drop_segmentation AS RETURN 0;');
GO
-- Removes a segmentation with its runs and models, functions, history, view with names and staging
-- tables. The segment table stays, because reports may join it, unless it is asked for. The rows of
-- schema sqlkmeans go last: where a call was cut short, the same call carries on.
ALTER PROCEDURE sqlkmeans.drop_segmentation
    @segmentation nvarchar(128) = NULL,
    @drop_target  bit           = 0,
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
            (1, N'@segmentation', N'nvarchar(128)', N'NULL', N'The segmentation to remove.'),
            (2, N'@drop_target', N'bit', N'0', N'1 drops its segment table too.'),
            (3, N'@execute', N'bit', N'1', N'0 shows the statements and does nothing.'),
            (4, N'@quiet', N'bit', N'0', N'1 gives no row back, for a procedure that calls this one.'),
            (5, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @problems nvarchar(max);
    DECLARE @position int = 0;
    DECLARE @kind nvarchar(20);
    DECLARE @name nvarchar(1000);
    DECLARE @statement nvarchar(max);

    IF NOT EXISTS (SELECT 1 FROM sqlkmeans.segmentation AS g WHERE g.name = @segmentation)
        SET @problems = N'@segmentation: ' + COALESCE(@segmentation, N'NULL')
            + N' given; allowed: the name of a segmentation in sqlkmeans.segmentation';
    EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;

    CREATE TABLE #sqlkmeans_old (run_id bigint NOT NULL PRIMARY KEY);
    CREATE TABLE #sqlkmeans_drop
    (
        position  int            IDENTITY (1, 1) NOT NULL PRIMARY KEY,
        kind      nvarchar(20)   COLLATE DATABASE_DEFAULT NULL,
        name      nvarchar(1000) COLLATE DATABASE_DEFAULT NULL,
        statement nvarchar(max)  COLLATE DATABASE_DEFAULT NULL
    );

    EXECUTE sqlkmeans.take_lock @segmentation = @segmentation;

    BEGIN TRY
        IF @execute = 1
            EXECUTE sqlkmeans.reclaim_runs @segmentation = @segmentation;

        INSERT INTO #sqlkmeans_drop (kind, name)
        SELECT N'function', o.name
        FROM sys.objects AS o
        WHERE o.schema_id = SCHEMA_ID(N'sqlkmeans') AND RTRIM(o.type) IN (N'IF', N'TF', N'FN')
          AND o.name IN (N'assign_' + @segmentation, N'explain_' + @segmentation)
        ORDER BY o.name;

        -- Every target that it has or had and that is no other segmentation's; of it, what is marked as
        -- made by sqlkmeans.
        INSERT INTO #sqlkmeans_drop (kind, name)
        SELECT k.kind, t.target
        FROM (SELECT g.target FROM sqlkmeans.segmentation AS g WHERE g.name = @segmentation
              UNION
              SELECT JSON_VALUE(r.definition, '$.target')
              FROM sqlkmeans.run AS r
              WHERE r.segmentation = @segmentation) AS t
        CROSS JOIN (VALUES (1, N'view', N'_named'), (2, N'history', N'_history'),
                           (3, CASE WHEN @drop_target = 1 THEN N'target' ELSE N'grant' END, N'')
                   ) AS k (position, kind, suffix)
        WHERE EXISTS (SELECT 1 FROM sys.extended_properties AS e
                      WHERE e.class = 1 AND e.minor_id = 0 AND e.name = N'sqlkmeans'
                        AND e.major_id = OBJECT_ID(sqlkmeans.quoted_name(t.target, k.suffix)))
          AND NOT EXISTS (SELECT 1 FROM sqlkmeans.segmentation AS o
                          WHERE o.name <> @segmentation
                            AND sqlkmeans.quoted_name(o.target, N'')
                                = sqlkmeans.quoted_name(t.target, N''))
        ORDER BY t.target, k.position;

        INSERT INTO #sqlkmeans_old (run_id)
        SELECT r.run_id FROM sqlkmeans.run AS r WHERE r.segmentation = @segmentation;

        -- What a task that was given up still wrote into when its run ended.
        INSERT INTO #sqlkmeans_drop (kind, name)
        SELECT N'parts', t.name
        FROM (SELECT N'staging_' + CAST(o.run_id AS nvarchar(20)) + N'_parts' AS name
              FROM #sqlkmeans_old AS o) AS t
        WHERE OBJECT_ID(N'sqlkmeans.' + QUOTENAME(t.name), N'U') IS NOT NULL;

        IF @execute = 1
        BEGIN
            -- First out of the view segment_movement, which reads the history.
            UPDATE sqlkmeans.segmentation SET active_run_id = NULL WHERE name = @segmentation;
            EXECUTE sqlkmeans.refresh_movement;
        END;

        WHILE EXISTS (SELECT 1 FROM #sqlkmeans_drop AS d WHERE d.position > @position)
        BEGIN
            SET @position = @position + 1;
            SELECT @kind = d.kind, @name = d.name FROM #sqlkmeans_drop AS d WHERE d.position = @position;
            SET @statement = CASE @kind
                WHEN N'function' THEN N'DROP FUNCTION IF EXISTS sqlkmeans.' + QUOTENAME(@name)
                WHEN N'parts' THEN N'SET LOCK_TIMEOUT 60000; DROP TABLE IF EXISTS sqlkmeans.' + QUOTENAME(@name)
                WHEN N'view' THEN N'DROP VIEW IF EXISTS ' + sqlkmeans.quoted_name(@name, N'_named')
                WHEN N'history' THEN N'DROP TABLE IF EXISTS ' + sqlkmeans.quoted_name(@name, N'_history')
                WHEN N'target' THEN N'DROP TABLE IF EXISTS ' + sqlkmeans.quoted_name(@name, N'')
                WHEN N'grant' THEN N'REVOKE SELECT ON ' + sqlkmeans.quoted_name(@name, N'')
                    + N' FROM sqlkmeans_reader' END + N';';
            UPDATE #sqlkmeans_drop SET statement = @statement WHERE position = @position;
            IF @execute = 1
                EXECUTE sqlkmeans.as_owner @statement = @statement;
        END;

        IF @execute = 1
        BEGIN
            EXECUTE sqlkmeans.delete_runs;
            DELETE FROM sqlkmeans.segmentation WHERE name = @segmentation;
        END;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1;
    END TRY
    BEGIN CATCH
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1;
        THROW;
    END CATCH;

    INSERT INTO #sqlkmeans_drop (statement)
    SELECT N'DELETE FROM sqlkmeans.run WHERE segmentation = ' + sqlkmeans.text_literal(@segmentation)
        + N'; -- ' + CAST(COUNT(*) AS nvarchar(20)) + N' runs, and what they learnt'
    FROM #sqlkmeans_old AS o;
    INSERT INTO #sqlkmeans_drop (statement)
    VALUES (N'DELETE FROM sqlkmeans.segmentation WHERE name = ' + sqlkmeans.text_literal(@segmentation)
        + N';');

    IF @quiet = 0
        SELECT CASE WHEN @execute = 1 THEN N'done' ELSE N'would be done' END AS outcome, d.statement
        FROM #sqlkmeans_drop AS d
        ORDER BY d.position;
END;
GO
