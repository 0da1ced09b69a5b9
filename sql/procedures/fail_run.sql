IF OBJECT_ID(N'sqlkmeans.fail_run', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.fail_run AS RETURN 0;');
GO
-- Records a running run as failed and drops its staging table. A run that ended stays as it is.
ALTER PROCEDURE sqlkmeans.fail_run
    @run_id bigint        = NULL,
    @error  nvarchar(max) = NULL,
    @help   bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@run_id', N'bigint', N'NULL', N'The run that failed.'),
            (2, N'@error', N'nvarchar(max)', N'NULL', N'Why, for the run''s row.'),
            (3, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @problem nvarchar(max) = N'@run_id: ' + COALESCE(CAST(@run_id AS nvarchar(20)), N'NULL')
        + N' given; allowed: a run in sqlkmeans.run';

    IF NOT EXISTS (SELECT 1 FROM sqlkmeans.run AS r WHERE r.run_id = @run_id)
        EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problem;

    IF EXISTS (SELECT 1 FROM sqlkmeans.run AS r WHERE r.run_id = @run_id AND r.status = N'running')
    BEGIN
        EXECUTE sqlkmeans.drop_staging @run_id = @run_id;
        EXECUTE sqlkmeans.forget_model @run_id = @run_id;

        UPDATE sqlkmeans.run
        SET status = N'failed', error = COALESCE(@error, N'failed'), finished_at = SYSUTCDATETIME()
        WHERE run_id = @run_id AND status = N'running';
    END;
END;
GO
