IF OBJECT_ID(N'sqlkmeans.drop_agent_job', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.drop_agent_job AS RETURN 0;');
GO
-- Drops the job that create_agent_job made; harmless where there is none.
ALTER PROCEDURE sqlkmeans.drop_agent_job
    @segmentation nvarchar(128) = NULL,
    @execute      bit           = 1,
    @help         bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@segmentation', N'nvarchar(128)', N'NULL', N'The segmentation; it need not exist any more.'),
            (2, N'@execute', N'bit', N'1', N'0 shows what would be dropped and drops nothing.'),
            (3, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @job nvarchar(128) = LEFT(N'sqlkmeans: ' + DB_NAME() + N'.' + @segmentation, 128);

    IF COALESCE(@segmentation, N'') = N''
        EXECUTE sqlkmeans.raise_problems @number = 50002,
            @problems = N'@segmentation: missing; allowed: the name of a segmentation';

    IF @execute = 1
    BEGIN
        IF OBJECT_ID(N'msdb.dbo.sp_delete_job', N'P') IS NULL
            EXECUTE sqlkmeans.raise_problems @number = 50004,
                @problems = N'this server has no SQL Server Agent, or you may not use it';

        EXECUTE sys.sp_executesql N'
IF EXISTS (SELECT 1 FROM msdb.dbo.sysjobs_view AS j WHERE j.name = @job)
    EXECUTE msdb.dbo.sp_delete_job @job_name = @job, @delete_unused_schedule = 1;
',
            N'@job nvarchar(128)', @job = @job;
    END;

    SELECT @job AS job, CASE WHEN @execute = 1 THEN N'dropped' ELSE N'would be dropped' END AS outcome;
END;
GO
