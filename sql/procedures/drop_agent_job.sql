IF OBJECT_ID(N'sqlkmeans.drop_agent_job', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.drop_agent_job AS RETURN 0;');
GO
-- Drops the jobs that create_agent_job made, of a step or of each; harmless where there is none.
ALTER PROCEDURE sqlkmeans.drop_agent_job
    @segmentation nvarchar(128) = NULL,
    @step         nvarchar(20)  = NULL,
    @execute      bit           = 1,
    @help         bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@segmentation', N'nvarchar(128)', N'NULL',
                N'The segmentation; it need not exist any more. With purge, NULL is the purge of all of them.'),
            (2, N'@step', N'nvarchar(20)', N'NULL',
                N'The step whose job goes, run, assign, purge or command_line; NULL takes all four.'),
            (3, N'@execute', N'bit', N'1', N'0 shows what would be dropped and drops nothing.'),
            (4, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @problems nvarchar(max) = N'';

    IF COALESCE(@segmentation, N'') = N'' AND COALESCE(@step, N'') <> N'purge'
        SET @problems = @problems + N'@segmentation: missing; allowed: the name of a segmentation, or '
            + N'with @step = N''purge'' none' + @line;
    IF @step NOT IN (N'run', N'assign', N'purge', N'command_line')
        SET @problems = @problems + N'@step: ' + @step
            + N' given; allowed: run, assign, purge, command_line, or NULL for all' + @line;
    EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;

    CREATE TABLE #sqlkmeans_job (name nvarchar(400) COLLATE DATABASE_DEFAULT NOT NULL);
    INSERT INTO #sqlkmeans_job (name)
    SELECT sqlkmeans.job_name(@segmentation, s.step)
    FROM (VALUES (N'run'), (N'assign'), (N'purge'), (N'command_line')) AS s (step)
    WHERE s.step = COALESCE(@step, s.step);

    IF @execute = 1
    BEGIN
        IF OBJECT_ID(N'msdb.dbo.sp_delete_job', N'P') IS NULL
            EXECUTE sqlkmeans.raise_problems @number = 50004,
                @problems = N'this server has no SQL Server Agent, or you may not use it';

        -- Inside TRY, because procedures of Agent tell a failure by RAISERROR, which ends nothing else.
        EXECUTE sys.sp_executesql N'
DECLARE @job nvarchar(128) = N'''';

BEGIN TRY
DELETE n
FROM #sqlkmeans_job AS n
WHERE NOT EXISTS (SELECT 1 FROM msdb.dbo.sysjobs_view AS j
                  WHERE j.name COLLATE DATABASE_DEFAULT = n.name);
WHILE EXISTS (SELECT 1 FROM #sqlkmeans_job AS n WHERE n.name > @job)
BEGIN
    SELECT @job = MIN(n.name) FROM #sqlkmeans_job AS n WHERE n.name > @job;
    EXECUTE msdb.dbo.sp_delete_job @job_name = @job, @delete_unused_schedule = 1;
END;
END TRY
BEGIN CATCH
    THROW;
END CATCH;
';
    END;

    SELECT n.name AS job, CASE WHEN @execute = 1 THEN N'dropped' ELSE N'would be dropped' END AS outcome
    FROM #sqlkmeans_job AS n
    ORDER BY n.name;
END;
GO
