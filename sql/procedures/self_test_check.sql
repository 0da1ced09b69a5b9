IF OBJECT_ID(N'sqlkmeans.self_test_check', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.self_test_check AS RETURN 0;');
GO
-- Makes one check of the caller's #sqlkmeans_check, and writes there what came out. Raises nothing:
-- one failure must not hide the others.
ALTER PROCEDURE sqlkmeans.self_test_check
    @position int
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @name nvarchar(200);
    DECLARE @person nvarchar(20);
    DECLARE @expected nvarchar(200);
    DECLARE @statement nvarchar(max);
    DECLARE @missing nvarchar(200);
    DECLARE @wrong bigint = 0;
    DECLARE @detail nvarchar(max);
    DECLARE @ok bit;
    DECLARE @message nvarchar(400);
    DECLARE @begun datetime2(6) = SYSUTCDATETIME();

    SELECT @name = c.name, @person = c.person, @expected = c.expected, @statement = c.statement
    FROM #sqlkmeans_check AS c
    WHERE c.position = @position;
    SELECT TOP (1) @missing = n.name
    FROM #sqlkmeans_check AS c
    INNER JOIN #sqlkmeans_check AS n ON c.needs LIKE N'%,' + n.name + N',%'
    WHERE c.position = @position AND COALESCE(n.ok, 0) = 0
    ORDER BY n.position;

    IF @missing IS NOT NULL
        SET @detail = N'not here: needs ' + @missing;
    ELSE
    BEGIN
        IF @person IS NOT NULL
            SET @statement = N'EXECUTE AS USER = N''sqlkmeans_self_test_' + @person + N''';
BEGIN TRY
' + @statement + N'
REVERT;
END TRY
BEGIN CATCH
    IF XACT_STATE() <> 0
        ROLLBACK TRANSACTION;
    REVERT;
    THROW;
END CATCH;';
        BEGIN TRY
            EXECUTE sys.sp_executesql
                @statement, N'@wrong bigint OUTPUT, @detail nvarchar(max) OUTPUT',
                @wrong = @wrong OUTPUT, @detail = @detail OUTPUT;
            IF @detail LIKE N'not here: %'
                SET @ok = NULL;
            ELSE IF @expected IS NOT NULL
                SELECT @ok = 0, @detail = N'was not refused; expected: ' + @expected;
            ELSE
                SELECT @ok = CASE @wrong WHEN 0 THEN 1 ELSE 0 END,
                    @detail = COALESCE(
                        CASE WHEN @wrong <> 0 THEN CAST(@wrong AS nvarchar(20)) + N' wrong; ' ELSE N'' END
                            + @detail,
                        CASE WHEN @wrong <> 0 THEN CAST(@wrong AS nvarchar(20)) + N' wrong'
                             WHEN @wrong IS NULL THEN N'gave no answer' END);
        END TRY
        BEGIN CATCH
            SET @detail = CAST(ERROR_NUMBER() AS nvarchar(20)) + N' ' + ERROR_MESSAGE();
            SET @ok = CASE WHEN @detail LIKE @expected THEN 1 ELSE 0 END;
            IF @ok = 0
                SET @detail = @detail + COALESCE(N' (' + ERROR_PROCEDURE() + N', line '
                    + CAST(ERROR_LINE() AS nvarchar(20)) + N')', N'')
                    + COALESCE(N'; expected: ' + @expected, N'');
            IF XACT_STATE() <> 0
                ROLLBACK TRANSACTION;
        END CATCH;
        IF @@TRANCOUNT > 0
            ROLLBACK TRANSACTION;
    END;

    UPDATE #sqlkmeans_check
    SET ok = @ok, detail = @detail,
        milliseconds = DATEDIFF(millisecond, @begun, SYSUTCDATETIME())
    WHERE position = @position;

    SET @message = CASE @ok WHEN 1 THEN N'ok   ' WHEN 0 THEN N'WRONG' ELSE N'-    ' END + N' ' + @name;
    RAISERROR (N'%s', 0, 1, @message) WITH NOWAIT;
END;
GO
