IF OBJECT_ID(N'sqlkmeans.switch_labels', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.switch_labels AS RETURN 0;');
GO
-- Puts a run's new labels in place of the earlier ones without moving a row. Readers of the segment
-- table wait from here to the commit. Those that were there before are waited for: a minute in
-- which others may still pass, and then as any writer waits.
ALTER PROCEDURE sqlkmeans.switch_labels
    @run_id bigint,
    @target nvarchar(1000)
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @table nvarchar(1000) = sqlkmeans.quoted_name(@target, N'');
    DECLARE @staging nvarchar(100) = N'staging_' + CAST(@run_id AS nvarchar(20));
    DECLARE @statement nvarchar(max) = N'ALTER TABLE ' + @table
        + N' SWITCH TO sqlkmeans.' + QUOTENAME(@staging + N'_old')
        + N' WITH (WAIT_AT_LOW_PRIORITY (MAX_DURATION = 1 MINUTES, ABORT_AFTER_WAIT = NONE));'
        + NCHAR(10) + N'ALTER TABLE sqlkmeans.' + QUOTENAME(@staging + N'_new')
        + N' SWITCH TO ' + @table + N';';

    EXECUTE sqlkmeans.as_owner @statement = @statement;
END;
GO
