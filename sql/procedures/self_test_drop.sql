IF OBJECT_ID(N'sqlkmeans.self_test_drop', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.self_test_drop AS RETURN 0;');
GO
-- Drops what a self-test made, an earlier one's that was killed too, and nothing else. Says in
-- @problem what it could not drop.
ALTER PROCEDURE sqlkmeans.self_test_drop
    @problem nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @name nvarchar(128) = N'';
    DECLARE @position int = 0;
    DECLARE @statement nvarchar(max);

    SET @problem = NULL;
    CREATE TABLE #sqlkmeans_leftover
    (
        position  int IDENTITY (1, 1) NOT NULL PRIMARY KEY,
        statement nvarchar(max) COLLATE DATABASE_DEFAULT NOT NULL
    );

    -- The schema is ours if it has our table, or nothing at all.
    IF OBJECT_ID(N'sqlkmeans_self_test.made_by_self_test', N'U') IS NULL
       AND EXISTS (SELECT 1 FROM sys.objects AS o WHERE o.schema_id = SCHEMA_ID(N'sqlkmeans_self_test'))
    BEGIN
        SET @problem = N'schema sqlkmeans_self_test is there already, and the self-test did not make it';
        RETURN 0;
    END;

    WHILE 1 = 1
    BEGIN
        SET @statement = NULL;
        SELECT TOP (1) @name = g.name, @statement = g.name
        FROM sqlkmeans.segmentation AS g
        WHERE g.name LIKE N'sqlkmeans[_]self[_]test[_]%' AND g.name > @name
          AND PARSENAME(g.target, 2) = N'sqlkmeans_self_test'
        ORDER BY g.name;
        IF @statement IS NULL
            BREAK;
        BEGIN TRY
            EXECUTE sqlkmeans.drop_segmentation
                @segmentation = @name, @drop_target = 1, @quiet = 1;
        END TRY
        BEGIN CATCH
            IF XACT_STATE() <> 0
                ROLLBACK TRANSACTION;
            SET @problem = COALESCE(@problem + NCHAR(10), N'') + @name + N': ' + ERROR_MESSAGE();
        END CATCH;
    END;

    INSERT INTO #sqlkmeans_leftover (statement)
    SELECT N'DROP ' + CASE RTRIM(o.type) WHEN N'V' THEN N'VIEW' ELSE N'TABLE' END + N' IF EXISTS '
        + QUOTENAME(s.name) + N'.' + QUOTENAME(o.name) + N';'
    FROM sys.objects AS o
    INNER JOIN sys.schemas AS s ON s.schema_id = o.schema_id
    WHERE s.name IN (N'sqlkmeans_self_test', N'sqlkmeans_self_test_other')
      AND RTRIM(o.type) IN (N'U', N'V')
    -- Our mark last, so that what is left by a call cut short is still known as ours.
    ORDER BY CASE WHEN RTRIM(o.type) = N'V' THEN 1 WHEN o.name = N'made_by_self_test' THEN 3 ELSE 2 END,
        o.name;
    -- Where drop_segmentation was cut short, too.
    INSERT INTO #sqlkmeans_leftover (statement)
    SELECT N'DROP FUNCTION IF EXISTS sqlkmeans.' + QUOTENAME(o.name) + N';'
    FROM sys.objects AS o
    WHERE o.schema_id = SCHEMA_ID(N'sqlkmeans') AND RTRIM(o.type) IN (N'IF', N'TF', N'FN')
      AND (o.name LIKE N'assign[_]sqlkmeans[_]self[_]test[_]%'
           OR o.name LIKE N'explain[_]sqlkmeans[_]self[_]test[_]%')
      AND NOT EXISTS (SELECT 1 FROM sqlkmeans.segmentation AS g
                      WHERE o.name IN (N'assign_' + g.name, N'explain_' + g.name))
    ORDER BY o.name;
    INSERT INTO #sqlkmeans_leftover (statement)
    SELECT N'DROP SCHEMA ' + QUOTENAME(s.name) + N';'
    FROM sys.schemas AS s
    WHERE s.name IN (N'sqlkmeans_self_test', N'sqlkmeans_self_test_other')
    ORDER BY s.name DESC;
    INSERT INTO #sqlkmeans_leftover (statement)
    SELECT N'DROP USER ' + QUOTENAME(p.name) + N';'
    FROM sys.database_principals AS p
    WHERE p.name IN (N'sqlkmeans_self_test_reader', N'sqlkmeans_self_test_operator',
                     N'sqlkmeans_self_test_admin', N'sqlkmeans_self_test_nobody',
                     N'sqlkmeans_self_test_visitor')
    ORDER BY p.name;

    WHILE EXISTS (SELECT 1 FROM #sqlkmeans_leftover AS l WHERE l.position > @position)
    BEGIN
        SET @position = @position + 1;
        SELECT @statement = l.statement FROM #sqlkmeans_leftover AS l WHERE l.position = @position;
        BEGIN TRY
            EXECUTE (@statement);
        END TRY
        BEGIN CATCH
            SET @problem = COALESCE(@problem + NCHAR(10), N'') + @statement + N' ' + ERROR_MESSAGE();
        END CATCH;
    END;
END;
GO
