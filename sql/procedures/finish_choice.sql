IF OBJECT_ID(N'sqlkmeans.finish_choice', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.finish_choice AS RETURN 0;');
GO
-- Records a choice of k as finished, with its scores. Labels, model and definition stay as they are.
ALTER PROCEDURE sqlkmeans.finish_choice
    @run_id      bigint        = NULL,
    @publication nvarchar(max) = NULL,
    @help        bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@run_id', N'bigint', N'NULL', N'A run of kind choose_k that start_run made.'),
            (2, N'@publication', N'nvarchar(max)', N'NULL',
                N'JSON: run, and tables with the rows of k_score.'),
            (3, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @problems nvarchar(max) = N'';
    DECLARE @status nvarchar(16);
    DECLARE @kind nvarchar(16);
    DECLARE @now datetime2(6) = SYSUTCDATETIME();

    SELECT @status = r.status, @kind = r.kind FROM sqlkmeans.run AS r WHERE r.run_id = @run_id;

    IF @status IS NULL
        SET @problems = @problems + N'@run_id: ' + COALESCE(CAST(@run_id AS nvarchar(20)), N'NULL')
            + N' given; allowed: a run in sqlkmeans.run' + @line;
    ELSE IF @status <> N'running' OR @kind <> N'choose_k'
        SET @problems = @problems + N'@run_id: run ' + CAST(@run_id AS nvarchar(20)) + N' is a '
            + @kind + N' that is ' + @status + N'; allowed: a running choose_k' + @line;
    IF @publication IS NULL OR ISJSON(@publication) = 0
        SET @problems = @problems + N'@publication: '
            + CASE WHEN @publication IS NULL THEN N'missing' ELSE N'not JSON' END
            + N'; allowed: a JSON object' + @line;

    EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;

    BEGIN TRY
        BEGIN TRANSACTION;

        EXECUTE sqlkmeans.store_result @run_id = @run_id, @publication = @publication;

        UPDATE sqlkmeans.run
        SET status = N'finished',
            finished_at = @now,
            seconds_total = DATEDIFF_BIG(millisecond, started_at, @now) / 1e3
        WHERE run_id = @run_id;

        COMMIT TRANSACTION;
    END TRY
    BEGIN CATCH
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        THROW;
    END CATCH;
END;
GO
