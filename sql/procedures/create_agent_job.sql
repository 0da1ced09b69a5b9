IF OBJECT_ID(N'sqlkmeans.create_agent_job', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.create_agent_job AS RETURN 0;');
GO
-- Makes or changes the SQL Server Agent job of a segmentation and a step. Runs as the caller, who needs a
-- role of msdb for it: SQLAgentUserRole reads the views of msdb, not its tables, and may not name an
-- owner or make a category. A job that is there keeps its history and its owner.
ALTER PROCEDURE sqlkmeans.create_agent_job
    @segmentation     nvarchar(128)  = NULL,
    @step             nvarchar(20)   = N'run',
    @command          nvarchar(3000) = NULL,
    @frequency        nvarchar(10)   = N'daily',
    @day              int            = 1,
    @at               nvarchar(5)    = N'02:00',
    @notify_operator  nvarchar(128)  = NULL,
    @retry_attempts   int            = 2,
    @retry_minutes    int            = 5,
    @owner            nvarchar(128)  = NULL,
    @keep_days        int            = NULL,
    @execute          bit            = 1,
    @quiet            bit            = 0,
    @help             bit            = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@segmentation', N'nvarchar(128)', N'NULL',
                N'A registered segmentation; with purge, NULL takes all of them.'),
            (2, N'@step', N'nvarchar(20)', N'N''run''',
                N'run trains in the database, assign labels with the stored model, purge deletes old runs, command_line runs @command.'),
            (3, N'@command', N'nvarchar(3000)', N'NULL',
                N'For command_line: what the operating system runs, such as sqlkmeans run C:\jobs\shop.toml.'),
            (4, N'@frequency', N'nvarchar(10)', N'N''daily''', N'daily, weekly or monthly.'),
            (5, N'@day', N'int', N'1',
                N'weekly: 1 (Sunday) to 7; monthly: 1 to 31, skipped in months without it.'),
            (6, N'@at', N'nvarchar(5)', N'N''02:00''', N'Time of day, hh:mm.'),
            (7, N'@notify_operator', N'nvarchar(128)', N'NULL',
                N'An operator of Agent who gets mail when the job fails.'),
            (8, N'@retry_attempts', N'int', N'2', N'0 to 100.'),
            (9, N'@retry_minutes', N'int', N'5', N'Between two attempts, 0 to 1,440.'),
            (10, N'@owner', N'nvarchar(128)', N'NULL',
                N'The login that owns the job; NULL keeps its owner, a new job takes the caller.'),
            (11, N'@keep_days', N'int', N'NULL',
                N'For purge: runs that ended in so many days stay, 1 to 36,500; NULL takes 365.'),
            (12, N'@execute', N'bit', N'1', N'0 shows what would be done and does nothing.'),
            (13, N'@quiet', N'bit', N'0', N'1 gives no row back, for a procedure that calls this one.'),
            (14, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @problems nvarchar(max) = N'';
    DECLARE @name nvarchar(400) = sqlkmeans.job_name(@segmentation, @step);
    DECLARE @job nvarchar(128) = LEFT(@name, 128);
    DECLARE @category nvarchar(128) = N'sqlkmeans';
    DECLARE @subsystem nvarchar(40) =
        CASE WHEN @step = N'command_line' THEN N'CmdExec' ELSE N'TSQL' END;
    -- T-SQL begins in master: on a secondary replica nobody may be let into the database itself.
    DECLARE @database nvarchar(128) = CASE WHEN @step <> N'command_line' THEN N'master' END;
    DECLARE @here nvarchar(300) = QUOTENAME(DB_NAME());
    -- Who may not ask goes on, and on a secondary fails where it can be seen.
    DECLARE @replica nvarchar(2000) = N'DECLARE @primary bit;
BEGIN TRY
    IF EXISTS (SELECT 1 FROM sys.databases AS d WHERE d.name = ' + sqlkmeans.text_literal(DB_NAME()) + N' AND d.replica_id IS NOT NULL)
        SET @primary = sys.fn_hadr_is_primary_replica(' + sqlkmeans.text_literal(DB_NAME()) + N');
END TRY
BEGIN CATCH
    SET @primary = NULL;
END CATCH;
IF @primary = 0
    ';
    DECLARE @step_id int = 1;
    DECLARE @warning nvarchar(400);
    -- What a step writes goes into the job's history: 4 is for T-SQL only.
    DECLARE @flags int = CASE WHEN @step = N'command_line' THEN 32 ELSE 4 END;
    DECLARE @time int;
    DECLARE @type int;
    DECLARE @interval int;
    DECLARE @recurrence int = CASE WHEN @frequency = N'daily' THEN 0 ELSE 1 END;
    DECLARE @now datetime2(0) = SYSDATETIME();
    DECLARE @today int = YEAR(@now) * 10000 + MONTH(@now) * 100 + DAY(@now);
    DECLARE @mail int = CASE WHEN @notify_operator > N'' THEN 2 ELSE 0 END;
    DECLARE @description nvarchar(512) =
        N'Made by sqlkmeans.create_agent_job; results in sqlkmeans.run_log.';

    -- Empty takes away the operator that a job has; NULL would leave it.
    SET @notify_operator = COALESCE(@notify_operator, N'');

    IF NOT (@step = N'purge' AND @segmentation IS NULL)
       AND NOT EXISTS (SELECT 1 FROM sqlkmeans.segmentation AS g WHERE g.name = @segmentation)
        SET @problems = @problems + N'@segmentation: ' + COALESCE(@segmentation, N'NULL')
            + N' given; allowed: a segmentation that define_segmentation has registered' + @line;
    IF @step IS NULL OR @step NOT IN (N'run', N'assign', N'purge', N'command_line')
        SET @problems = @problems + N'@step: ' + COALESCE(@step, N'NULL')
            + N' given; allowed: run, assign, purge, command_line' + @line;
    ELSE IF LEN(@name) > 128
        SET @problems = @problems + N'@segmentation: the job would be called ' + @name
            + N'; Agent takes 128 characters, so make a job of your own' + @line;
    IF @keep_days NOT BETWEEN 1 AND 36500
        SET @problems = @problems + N'@keep_days: ' + CAST(@keep_days AS nvarchar(20))
            + N' given; allowed: 1 to 36,500' + @line;
    ELSE IF @step <> N'purge' AND @keep_days IS NOT NULL
        SET @problems = @problems + N'@keep_days: given, and only purge takes it' + @line;
    IF @step = N'command_line' AND COALESCE(@command, N'') = N''
        SET @problems = @problems + N'@command: missing; command_line needs one' + @line;
    IF @step <> N'command_line' AND @command IS NOT NULL
        SET @problems = @problems + N'@command: given, and only command_line takes one' + @line;
    IF @frequency IS NULL OR @frequency NOT IN (N'daily', N'weekly', N'monthly')
        SET @problems = @problems + N'@frequency: ' + COALESCE(@frequency, N'NULL')
            + N' given; allowed: daily, weekly, monthly' + @line;
    IF @day IS NULL OR @day < 1 OR @day > CASE @frequency WHEN N'weekly' THEN 7 ELSE 31 END
        SET @problems = @problems + N'@day: ' + COALESCE(CAST(@day AS nvarchar(20)), N'NULL')
            + N' given; allowed: 1 to 7 for weekly, 1 to 31 for monthly' + @line;
    IF @at IS NULL OR @at NOT LIKE N'[0-2][0-9]:[0-5][0-9]' OR LEFT(@at, 2) > N'23'
        SET @problems = @problems + N'@at: ' + COALESCE(@at, N'NULL')
            + N' given; allowed: 00:00 to 23:59' + @line;
    IF @retry_attempts IS NULL OR @retry_attempts NOT BETWEEN 0 AND 100
        SET @problems = @problems + N'@retry_attempts: '
            + COALESCE(CAST(@retry_attempts AS nvarchar(20)), N'NULL') + N' given; allowed: 0 to 100' + @line;
    IF @retry_minutes IS NULL OR @retry_minutes NOT BETWEEN 0 AND 1440
        SET @problems = @problems + N'@retry_minutes: '
            + COALESCE(CAST(@retry_minutes AS nvarchar(20)), N'NULL') + N' given; allowed: 0 to 1,440' + @line;
    EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;

    IF @step <> N'command_line'
        SET @command = @replica + N'RETURN;
EXECUTE ' + @here + CASE @step
            WHEN N'run' THEN N'.sqlkmeans.run_segmentation @segmentation = '
            WHEN N'assign' THEN N'.sqlkmeans.assign_segments @segmentation = '
            ELSE N'.sqlkmeans.purge @keep_days = ' + CAST(COALESCE(@keep_days, 365) AS nvarchar(10))
                + N', @segmentation = ' END
            + COALESCE(sqlkmeans.text_literal(@segmentation), N'NULL') + N';';
    ELSE
        -- The operating system cannot ask; a step before it can, and ends the job quietly.
        SELECT @step_id = 2, @replica = @replica
            + N'RAISERROR (N''not the primary replica: nothing to do'', 16, 1);';
    SET @time = CAST(REPLACE(@at, N':', N'') AS int) * 100;
    SET @type = CASE @frequency WHEN N'daily' THEN 4 WHEN N'weekly' THEN 8 ELSE 16 END;
    SET @interval = CASE @frequency WHEN N'daily' THEN 1 WHEN N'weekly' THEN POWER(2, @day - 1)
                                    ELSE @day END;

    IF @execute = 1
    BEGIN
        -- Express has the procedures too, but nothing that runs a job.
        IF OBJECT_ID(N'msdb.dbo.sp_add_job', N'P') IS NULL
            OR CAST(SERVERPROPERTY('EngineEdition') AS int) = 4
            EXECUTE sqlkmeans.raise_problems @number = 50004,
                @problems = N'this server has no SQL Server Agent, or you may not use it; schedule the client with the operating system (docs/schedule.md)';

        -- As text, because a server without Agent could not take the procedure otherwise.
        EXECUTE sys.sp_executesql N'
DECLARE @job_id uniqueidentifier;

-- Inside TRY, because procedures of Agent tell a failure by RAISERROR, which ends nothing else.
BEGIN TRY
BEGIN TRANSACTION;

IF NOT EXISTS (SELECT 1 FROM msdb.dbo.syscategories AS c WHERE c.name = @category AND c.category_class = 1)
BEGIN
    IF IS_SRVROLEMEMBER(N''sysadmin'') = 1
        EXECUTE msdb.dbo.sp_add_category @class = N''JOB'', @type = N''LOCAL'', @name = @category;
    ELSE
        SET @category = NULL;
END;

SELECT @job_id = j.job_id FROM msdb.dbo.sysjobs_view AS j WHERE j.name = @job;

IF @job_id IS NULL
BEGIN
    EXECUTE msdb.dbo.sp_add_job
        @job_name = @job, @enabled = 1, @description = @description, @category_name = @category,
        @owner_login_name = @owner, @notify_level_eventlog = 2, @notify_level_email = @mail,
        @notify_email_operator_name = @notify_operator, @job_id = @job_id OUTPUT;
    EXECUTE msdb.dbo.sp_add_jobserver @job_id = @job_id, @server_name = N''(local)'';
END;
ELSE
BEGIN
    EXECUTE msdb.dbo.sp_update_job
        @job_id = @job_id, @enabled = 1, @description = @description, @start_step_id = 1,
        @category_name = @category, @owner_login_name = @owner, @notify_level_eventlog = 2,
        @notify_level_email = @mail, @notify_email_operator_name = @notify_operator;
    EXECUTE msdb.dbo.sp_delete_jobstep @job_id = @job_id, @step_id = 0;
    IF EXISTS (SELECT 1 FROM msdb.dbo.sysschedules_localserver_view AS s WHERE s.name = @job)
        EXECUTE msdb.dbo.sp_delete_jobschedule @job_id = @job_id, @name = @job;
END;

IF @step_id = 2
    EXECUTE msdb.dbo.sp_add_jobstep
        @job_id = @job_id, @step_id = 1, @step_name = N''is this the primary replica'', @subsystem = N''TSQL'',
        @command = @replica, @database_name = N''master'', @on_success_action = 3, @on_fail_action = 1;
EXECUTE msdb.dbo.sp_add_jobstep
    @job_id = @job_id, @step_id = @step_id, @step_name = @step, @subsystem = @subsystem, @command = @command,
    @database_name = @database, @retry_attempts = @retry_attempts,
    @retry_interval = @retry_minutes, @on_success_action = 1, @on_fail_action = 2, @flags = @flags;
EXECUTE msdb.dbo.sp_add_jobschedule
    @job_id = @job_id, @name = @job, @enabled = 1, @freq_type = @type, @freq_interval = @interval,
    @freq_subday_type = 1, @freq_recurrence_factor = @recurrence, @active_start_date = @today,
    @active_start_time = @time;
SELECT @owner = SUSER_SNAME(j.owner_sid) FROM msdb.dbo.sysjobs_view AS j WHERE j.job_id = @job_id;

COMMIT TRANSACTION;
END TRY
BEGIN CATCH
    IF XACT_STATE() <> 0
        ROLLBACK TRANSACTION;
    THROW;
END CATCH;
',
            N'@job nvarchar(128), @category nvarchar(128), @description nvarchar(512),
              @step_id int, @replica nvarchar(2000),
              @owner nvarchar(128) OUTPUT, @mail int, @notify_operator nvarchar(128),
              @step nvarchar(20), @subsystem nvarchar(40), @command nvarchar(max), @database nvarchar(128),
              @flags int, @retry_attempts int, @retry_minutes int, @type int, @interval int, @recurrence int,
              @today int, @time int',
            @job = @job, @category = @category, @description = @description, @owner = @owner OUTPUT,
            @step_id = @step_id, @replica = @replica,
            @mail = @mail, @notify_operator = @notify_operator, @step = @step,
            @subsystem = @subsystem, @command = @command, @database = @database, @flags = @flags,
            @retry_attempts = @retry_attempts, @retry_minutes = @retry_minutes, @type = @type,
            @interval = @interval, @recurrence = @recurrence, @today = @today, @time = @time;
    END;

    SET @owner = COALESCE(@owner, SUSER_SNAME());
    -- What a step does, its owner does; and anybody who may change the procedure or its source then
    -- does it too.
    IF IS_SRVROLEMEMBER(N'sysadmin', @owner) = 1
        SET @warning = N'the owner, ' + @owner + N', is a sysadmin: whatever the step calls runs as '
            + N'one. Name a login with as few permissions as docs/schedule.md says in @owner';

    IF @quiet = 0
        SELECT @job AS job, CASE WHEN @execute = 1 THEN N'scheduled' ELSE N'would be scheduled' END AS outcome,
            @frequency AS frequency, CASE WHEN @frequency <> N'daily' THEN @day END AS [day], @at AS at_time,
            @command AS command, @owner AS owner, @warning AS warning;
END;
GO
