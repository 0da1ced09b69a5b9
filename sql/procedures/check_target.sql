IF OBJECT_ID(N'sqlkmeans.check_target', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.check_target AS RETURN 0;');
GO
-- Adds a line to @problems for each thing that speaks against writing, as dbo, to a target, its
-- history and its view with names: that they are somebody else's, or that somebody else could have
-- code of their own run by it. What sqlkmeans made has an extended property of that name. A caller
-- that goes on to write holds locks on the tables.
ALTER PROCEDURE sqlkmeans.check_target
    @target   nvarchar(1000),
    @problems nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @schema nvarchar(128) = COALESCE(PARSENAME(@target, 2), N'dbo');
    DECLARE @position int = 0;
    DECLARE @name nvarchar(1000);
    DECLARE @kind nvarchar(10);
    DECLARE @problem nvarchar(max);

    CREATE TABLE #sqlkmeans_target_object
    (
        position int            NOT NULL PRIMARY KEY,
        name     nvarchar(1000) COLLATE DATABASE_DEFAULT NOT NULL,
        kind     nvarchar(10)   COLLATE DATABASE_DEFAULT NOT NULL,
        wanted   nvarchar(10)   COLLATE DATABASE_DEFAULT NOT NULL,
        owner    nvarchar(128)  COLLATE DATABASE_DEFAULT NULL,
        fires    nvarchar(128)  COLLATE DATABASE_DEFAULT NULL,
        marked   bit            NOT NULL
    );

    SET @problems = COALESCE(@problems, N'');
    IF sqlkmeans.quoted_name(@target, N'') IS NULL OR PARSENAME(@target, 3) IS NOT NULL
       OR sqlkmeans.quoted_name(@target, N'_history') IS NULL
        SET @problem = COALESCE(LEFT(@target, 200), N'NULL')
            + N' given; allowed: table or schema.table in this database';
    ELSE IF SCHEMA_ID(@schema) IS NULL
        SET @problem = N'there is no schema ' + @schema;
    ELSE IF @schema = N'sqlkmeans'
        SET @problem = N'schema sqlkmeans is not for segment tables';
    IF @problem IS NOT NULL
    BEGIN
        SET @problems = @problems + N'target: ' + @problem + @line;
        RETURN 0;
    END;

    -- As the owner: what the caller cannot see must not be taken for a free name.
    EXECUTE sqlkmeans.as_owner @text = @target, @statement = N'
INSERT INTO #sqlkmeans_target_object (position, name, kind, wanted, owner, fires, marked)
SELECT n.position, sqlkmeans.quoted_name(@text, n.suffix) COLLATE DATABASE_DEFAULT, COALESCE(o.kind, N''''),
    n.wanted, USER_NAME(COALESCE(o.principal_id, s.principal_id)),
    (SELECT MIN(g.name) FROM sys.triggers AS g
     WHERE g.parent_id = o.object_id AND g.is_disabled = 0),
    CASE WHEN EXISTS (SELECT 1 FROM sys.extended_properties AS e
                      WHERE e.class = 1 AND e.major_id = o.object_id AND e.minor_id = 0
                        AND e.name = N''sqlkmeans'') THEN 1 ELSE 0 END
FROM (VALUES (1, N'''', N''U''), (2, N''_history'', N''U''), (3, N''_named'', N''V''))
    AS n (position, suffix, wanted)
INNER JOIN sys.schemas AS s ON s.schema_id = SCHEMA_ID(COALESCE(PARSENAME(@text, 2), N''dbo''))
LEFT JOIN (SELECT t.object_id, t.principal_id, N''U'' AS kind FROM sys.tables AS t
           WHERE t.is_external = 0
           UNION ALL
           SELECT v.object_id, v.principal_id, N''V'' FROM sys.views AS v) AS o
    ON o.object_id = OBJECT_ID(sqlkmeans.quoted_name(@text, n.suffix))
WHERE OBJECT_ID(sqlkmeans.quoted_name(@text, n.suffix)) IS NOT NULL
UNION ALL
SELECT 4, QUOTENAME(s.name) COLLATE DATABASE_DEFAULT, N''schema'', N''schema'', USER_NAME(s.principal_id), NULL, 1
FROM sys.schemas AS s
WHERE s.schema_id = SCHEMA_ID(COALESCE(PARSENAME(@text, 2), N''dbo''));';

    WHILE 1 = 1
    BEGIN
        SET @name = NULL;
        SELECT TOP (1) @position = t.position, @name = t.name, @kind = t.wanted,
            @problem = CASE
                WHEN t.kind <> t.wanted OR t.marked = 0
                    THEN N' is there already, and sqlkmeans did not make it'
                WHEN t.owner NOT IN (N'dbo', N'db_owner')
                    THEN N' is owned by ' + t.owner + N', whose triggers would run as dbo; allowed: '
                        + N'what dbo owns'
                WHEN t.fires IS NOT NULL
                    THEN N' has the trigger ' + t.fires + N', which would run as dbo; disable or drop it'
            END
        FROM #sqlkmeans_target_object AS t
        WHERE t.position > @position
        ORDER BY t.position;
        IF @name IS NULL
            BREAK;
        SET @problems = @problems + COALESCE(N'target: '
            + CASE @kind WHEN N'schema' THEN N'schema ' ELSE N'' END + @name + @problem + @line, N'');
    END;
END;
GO
