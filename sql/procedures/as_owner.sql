-- The one door to more than the caller may do. Nobody is granted it: procedures of this schema
-- reach it through their common owner, with statements built from quoted names and types; no text of
-- a caller comes here but as a parameter. A server without the catalog of module parameters has no
-- EXECUTE AS either; there the caller needs the permissions.
IF OBJECT_ID(N'sqlkmeans.as_owner', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.as_owner AS RETURN 0;');
GO
DECLARE @context nvarchar(40) =
    CASE WHEN OBJECT_ID(N'sys.parameters') IS NULL THEN N'' ELSE N'WITH EXECUTE AS OWNER ' END;

DECLARE @procedure nvarchar(max) = N'ALTER PROCEDURE sqlkmeans.as_owner
    @statement nvarchar(max),
    @run_id    bigint        = NULL,
    @text      nvarchar(max) = NULL,
    @now       datetime2(6)  = NULL,
    @then      datetime2(6)  = NULL,
    @tolerance float         = NULL,
    @arrived   bigint        = NULL OUTPUT,
    @moved     bigint        = NULL OUTPUT,
    @departed  bigint        = NULL OUTPUT,
    @written   bigint        = NULL OUTPUT
' + @context + N'AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    EXECUTE sys.sp_executesql
        @statement,
        N''@run_id bigint, @text nvarchar(max), @now datetime2(6), @then datetime2(6),
          @tolerance float, @arrived bigint OUTPUT, @moved bigint OUTPUT,
          @departed bigint OUTPUT, @written bigint OUTPUT'',
        @run_id = @run_id, @text = @text, @now = @now, @then = @then, @tolerance = @tolerance,
        @arrived = @arrived OUTPUT, @moved = @moved OUTPUT,
        @departed = @departed OUTPUT, @written = @written OUTPUT;
END;';

EXECUTE (@procedure);
GO
-- Where it cannot be the owner, nothing else will work: said here, and not on the first night.
BEGIN TRY
    EXECUTE sqlkmeans.as_owner @statement = N'SET @arrived = 1;';
END TRY
BEGIN CATCH
    DECLARE @problem nvarchar(max) = N'the procedures cannot run as the owner of this database ('
        + ERROR_MESSAGE() + N'); ALTER AUTHORIZATION ON DATABASE::' + QUOTENAME(DB_NAME())
        + N' TO a login of this server';
    EXECUTE sqlkmeans.raise_problems @number = 50004, @problems = @problem;
END CATCH;
GO
