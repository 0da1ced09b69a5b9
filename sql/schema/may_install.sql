-- Stops the script before it has changed anything: no batch after SET NOEXEC ON is run, also where the
-- client goes on after an error. What an earlier version may not have yet is asked for as text.
DECLARE @newest int = N'{{schema_version}}';
DECLARE @version int;
DECLARE @package nvarchar(64);
DECLARE @ledger bit;
DECLARE @running nvarchar(128);
DECLARE @problem nvarchar(2000);

IF EXISTS (SELECT 1 FROM sys.all_columns AS c
           WHERE c.object_id = OBJECT_ID(N'sys.databases') AND c.name = N'is_ledger_on')
    EXECUTE sys.sp_executesql
        N'SELECT @ledger = d.is_ledger_on FROM sys.databases AS d WHERE d.name = DB_NAME();',
        N'@ledger bit OUTPUT', @ledger = @ledger OUTPUT;
IF OBJECT_ID(N'sqlkmeans.schema_version', N'U') IS NOT NULL
    EXECUTE sys.sp_executesql
        N'SELECT TOP (1) @version = v.version, @package = v.package_version
          FROM sqlkmeans.schema_version AS v ORDER BY v.version DESC;',
        N'@version int OUTPUT, @package nvarchar(64) OUTPUT',
        @version = @version OUTPUT, @package = @package OUTPUT;
IF OBJECT_ID(N'sqlkmeans.lock_name', N'FN') IS NOT NULL AND OBJECT_ID(N'sqlkmeans.run', N'U') IS NOT NULL
    EXECUTE sys.sp_executesql
        N'SELECT @running = MIN(r.segmentation)
          FROM sqlkmeans.run AS r
          WHERE r.status = N''running''
            AND APPLOCK_TEST(N''sqlkmeans_operator'', sqlkmeans.lock_name(r.segmentation),
                             N''Exclusive'', N''Session'') = 0;',
        N'@running nvarchar(128) OUTPUT', @running = @running OUTPUT;

BEGIN TRY
    EXECUTE (N'DECLARE @n int; SELECT @n = COUNT(*) FROM OPENJSON(N''{"a":1}'') WITH (a int ''$.a'') AS j;');
END TRY
BEGIN CATCH
    SET @problem = N'this database has no JSON; it needs compatibility level 130: '
        + N'ALTER DATABASE CURRENT SET COMPATIBILITY_LEVEL = 130';
END CATCH;

IF @problem IS NULL AND @ledger = 1
    SET @problem = N'this is a ledger database: every table in it is a ledger table, which keeps all '
        + N'that was ever in it and cannot be loaded as segment tables are; install sqlkmeans in another';
ELSE IF @problem IS NULL AND @version > @newest
    SET @problem = N'schema sqlkmeans is at version ' + CAST(@version AS nvarchar(10))
        + N', of sqlkmeans ' + @package + N', and this script brings it to ' + CAST(@newest AS nvarchar(10))
        + N' only; take the script of that release or of a newer one';
ELSE IF @problem IS NULL AND @running IS NOT NULL
    SET @problem = @running + N' is being run; install when it has ended';

IF @problem IS NOT NULL
BEGIN
    SET @problem = @problem + N'. Nothing was changed';
    RAISERROR (N'%s', 16, 1, @problem);
    SET NOEXEC ON;
END;
GO
