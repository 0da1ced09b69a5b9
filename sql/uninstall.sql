/*
Drops schema sqlkmeans with all runs and models, and what carries its mark: the histories and the
views with names. Segment tables stay, because reports may join them. Shows the statements; with
@execute = 1 it also does them. Needs db_owner.
*/
SET NOCOUNT ON;
SET XACT_ABORT ON;

DECLARE @execute bit = 0;

DECLARE @position int = 0;
DECLARE @statement nvarchar(max);
CREATE TABLE #sqlkmeans_uninstall
(
    position  int IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    statement nvarchar(max) COLLATE DATABASE_DEFAULT NOT NULL
);

-- The views first: some read the histories.
INSERT INTO #sqlkmeans_uninstall (statement)
SELECT N'DROP VIEW IF EXISTS sqlkmeans.' + QUOTENAME(o.name) + N';'
FROM sys.objects AS o
WHERE o.schema_id = SCHEMA_ID(N'sqlkmeans') AND RTRIM(o.type) = N'V'
ORDER BY o.name;

IF OBJECT_ID(N'sqlkmeans.segmentation', N'U') IS NOT NULL
   AND OBJECT_ID(N'sqlkmeans.quoted_name', N'FN') IS NOT NULL
    EXECUTE (N'
        INSERT INTO #sqlkmeans_uninstall (statement)
        SELECT N''DROP VIEW IF EXISTS '' + sqlkmeans.quoted_name(g.target, N''_named'') + N'';''
        FROM (SELECT k.target FROM sqlkmeans.segmentation AS k
              UNION SELECT JSON_VALUE(r.definition, ''$.target'') FROM sqlkmeans.run AS r) AS g
        WHERE EXISTS (
            SELECT 1
            FROM sys.extended_properties AS e
            WHERE e.class = 1 AND e.minor_id = 0 AND e.name = N''sqlkmeans''
              AND e.major_id = OBJECT_ID(sqlkmeans.quoted_name(g.target, N''_named'')))
        ORDER BY g.target;
        INSERT INTO #sqlkmeans_uninstall (statement)
        SELECT N''DROP TABLE IF EXISTS '' + sqlkmeans.quoted_name(g.target, N''_history'') + N'';''
        FROM (SELECT k.target FROM sqlkmeans.segmentation AS k
              UNION SELECT JSON_VALUE(r.definition, ''$.target'') FROM sqlkmeans.run AS r) AS g
        WHERE EXISTS (
            SELECT 1
            FROM sys.extended_properties AS e
            WHERE e.class = 1 AND e.minor_id = 0 AND e.name = N''sqlkmeans''
              AND e.major_id = OBJECT_ID(sqlkmeans.quoted_name(g.target, N''_history'')))
        ORDER BY g.target;
        INSERT INTO #sqlkmeans_uninstall (statement)
        SELECT N''REVOKE SELECT ON '' + sqlkmeans.quoted_name(g.target, N'''')
            + N'' FROM sqlkmeans_reader;''
        FROM sqlkmeans.segmentation AS g
        WHERE OBJECT_ID(sqlkmeans.quoted_name(g.target, N''''), N''U'') IS NOT NULL
        ORDER BY g.name;');

INSERT INTO #sqlkmeans_uninstall (statement)
SELECT N'DROP ' + CASE RTRIM(o.type) WHEN N'P' THEN N'PROCEDURE' WHEN N'U' THEN N'TABLE'
                                     ELSE N'FUNCTION' END
    + N' IF EXISTS sqlkmeans.' + QUOTENAME(o.name) + N';'
FROM sys.objects AS o
WHERE o.schema_id = SCHEMA_ID(N'sqlkmeans')
  AND RTRIM(o.type) IN (N'P', N'U', N'FN', N'IF', N'TF')
ORDER BY CASE RTRIM(o.type) WHEN N'P' THEN 1 WHEN N'U' THEN 3 ELSE 2 END, o.name;

INSERT INTO #sqlkmeans_uninstall (statement)
SELECT N'DROP SCHEMA sqlkmeans;'
WHERE SCHEMA_ID(N'sqlkmeans') IS NOT NULL;

INSERT INTO #sqlkmeans_uninstall (statement)
SELECT N'ALTER ROLE ' + QUOTENAME(r.name) + N' DROP MEMBER ' + QUOTENAME(m.name) + N';'
FROM sys.database_role_members AS x
INNER JOIN sys.database_principals AS r ON r.principal_id = x.role_principal_id
INNER JOIN sys.database_principals AS m ON m.principal_id = x.member_principal_id
WHERE r.name IN (N'sqlkmeans_reader', N'sqlkmeans_operator', N'sqlkmeans_admin')
ORDER BY r.name, m.name;

INSERT INTO #sqlkmeans_uninstall (statement)
SELECT N'DROP ROLE ' + QUOTENAME(r.name) + N';'
FROM sys.database_principals AS r
WHERE r.name IN (N'sqlkmeans_reader', N'sqlkmeans_operator', N'sqlkmeans_admin')
ORDER BY r.name;

WHILE 1 = 1
BEGIN
    SET @statement = NULL;
    SELECT TOP (1) @position = u.position, @statement = u.statement
    FROM #sqlkmeans_uninstall AS u
    WHERE u.position > @position
    ORDER BY u.position;
    IF @statement IS NULL
        BREAK;
    IF @execute = 1
        EXECUTE (@statement);
END;

SELECT u.statement
FROM #sqlkmeans_uninstall AS u
ORDER BY u.position;

DROP TABLE #sqlkmeans_uninstall;
GO
