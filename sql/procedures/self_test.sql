IF OBJECT_ID(N'sqlkmeans.self_test', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.self_test AS RETURN 0;');
GO
-- Tries everything on this server, in a schema, with users and segmentations of its own, and says what
-- came out: a row for each check, and then one line of JSON to send with a report of a bug.
ALTER PROCEDURE sqlkmeans.self_test
    @keep    bit = 0,
    @execute bit = 1,
    @help    bit = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@keep', N'bit', N'0',
                N'1 leaves what was made, to look at; the next self-test drops it.'),
            (2, N'@execute', N'bit', N'1', N'0 lists the checks and does nothing.'),
            (3, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @position int = 0;
    DECLARE @last int;
    DECLARE @problem nvarchar(max);

    -- A check is wrong where its statement counts something in @wrong, or raises; where a refusal is
    -- expected, it has to raise just that.
    CREATE TABLE #sqlkmeans_check
    (
        position     int IDENTITY (1, 1) NOT NULL PRIMARY KEY,
        name         nvarchar(200) COLLATE DATABASE_DEFAULT NOT NULL,
        needs        nvarchar(200) COLLATE DATABASE_DEFAULT NULL,
        person       nvarchar(20)  COLLATE DATABASE_DEFAULT NULL,
        expected     nvarchar(200) COLLATE DATABASE_DEFAULT NULL,
        statement    nvarchar(max) COLLATE DATABASE_DEFAULT NOT NULL,
        ok           bit           NULL,
        detail       nvarchar(max) COLLATE DATABASE_DEFAULT NULL,
        milliseconds int           NULL
    );
    EXECUTE sqlkmeans.self_test_engines;
    EXECUTE sqlkmeans.self_test_jobs;
    EXECUTE sqlkmeans.self_test_refusals;
    EXECUTE sqlkmeans.self_test_people;
    EXECUTE sqlkmeans.self_test_end;

    IF @execute = 0
    BEGIN
        SELECT c.name AS [check], c.statement FROM #sqlkmeans_check AS c ORDER BY c.position;
        RETURN 0;
    END;

    -- It makes a schema and users.
    IF COALESCE(IS_ROLEMEMBER(N'db_owner'), 0) = 0 AND USER_NAME() <> N'dbo'
        EXECUTE sqlkmeans.raise_problems @number = 50004,
            @problems = N'the self-test makes a schema and users, and drops them again: that takes db_owner';

    EXECUTE sqlkmeans.take_lock @segmentation = N'self-test';
    BEGIN TRY
        EXECUTE sqlkmeans.self_test_drop @problem = @problem OUTPUT;
        EXECUTE sqlkmeans.raise_problems @number = 50004, @problems = @problem;
        EXECUTE (N'CREATE SCHEMA sqlkmeans_self_test AUTHORIZATION dbo;');
        EXECUTE (N'CREATE TABLE sqlkmeans_self_test.made_by_self_test (nothing int NULL);');

        SELECT @last = MAX(c.position) FROM #sqlkmeans_check AS c;
        WHILE @position < @last
        BEGIN
            SET @position = @position + 1;
            EXECUTE sqlkmeans.self_test_check @position = @position;
        END;

        IF @keep = 0
            EXECUTE sqlkmeans.self_test_drop @problem = @problem OUTPUT;
        INSERT INTO #sqlkmeans_check (name, statement, ok, detail, milliseconds)
        VALUES (N'nothing is left', N'',
            CASE WHEN @keep = 1 THEN NULL WHEN @problem IS NULL THEN 1 ELSE 0 END,
            CASE WHEN @keep = 1 THEN N'kept, as asked for' ELSE @problem END, 0);
        EXECUTE sqlkmeans.take_lock @segmentation = N'self-test', @release = 1;
    END TRY
    BEGIN CATCH
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        IF @keep = 0
            EXECUTE sqlkmeans.self_test_drop @problem = @problem OUTPUT;
        EXECUTE sqlkmeans.take_lock @segmentation = N'self-test', @release = 1;
        THROW;
    END CATCH;

    SELECT c.name AS [check], c.ok, c.detail, c.milliseconds
    FROM #sqlkmeans_check AS c
    ORDER BY c.position;

    -- Put together by hand, because not every server nests JSON as such.
    DECLARE @report nvarchar(max) = (
        SELECT sqlkmeans.version() AS sqlkmeans,
            CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128)) AS version,
            CAST(SERVERPROPERTY('ProductUpdateLevel') AS nvarchar(128)) AS update_level,
            CAST(SERVERPROPERTY('Edition') AS nvarchar(128)) AS edition,
            CAST(SERVERPROPERTY('EngineEdition') AS int) AS engine_edition,
            CAST(SERVERPROPERTY('Collation') AS nvarchar(128)) AS server_collation,
            CAST(DATABASEPROPERTYEX(DB_NAME(), 'Collation') AS nvarchar(128)) AS collation,
            (SELECT d.compatibility_level FROM sys.databases AS d WHERE d.name = DB_NAME())
                AS compatibility_level,
            (SELECT COUNT(*) FROM #sqlkmeans_check AS c WHERE c.ok = 1) AS passed,
            (SELECT COUNT(*) FROM #sqlkmeans_check AS c WHERE c.ok IS NULL) AS not_here,
            (SELECT COUNT(*) FROM #sqlkmeans_check AS c WHERE c.ok = 0) AS failed
        FOR JSON PATH, WITHOUT_ARRAY_WRAPPER, INCLUDE_NULL_VALUES);
    DECLARE @results nvarchar(max) = (
        SELECT c.name AS [check], c.ok, c.detail, c.milliseconds
        FROM #sqlkmeans_check AS c
        ORDER BY c.position
        FOR JSON PATH, INCLUDE_NULL_VALUES);
    SELECT LEFT(@report, LEN(@report) - 1) + N',"results":' + @results + N'}' AS report;
END;
GO
