IF OBJECT_ID(N'sqlkmeans.take_lock', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.take_lock AS RETURN 0;');
GO
-- Takes or gives back a segmentation's application lock for this session. It is never taken twice,
-- because nobody gives it back for a call that is cancelled: CATCH does not run for that. So the next
-- call in the session that gives it back, gives it back whole. What takes it for several calls takes
-- it with @keep = 1: then only @keep = 1 gives it back. It waits for @wait milliseconds; some server
-- calls 0 a wrong call where it cannot be had.
ALTER PROCEDURE sqlkmeans.take_lock
    @segmentation nvarchar(128),
    @release      bit = 0,
    @keep         bit = 0,
    @wait         int = 1
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @lock nvarchar(255) = sqlkmeans.lock_name(@segmentation);
    DECLARE @kept nvarchar(255) = N'kept ' + @lock;
    DECLARE @result int = 0;
    DECLARE @number int = 50004;
    DECLARE @problem nvarchar(max);

    BEGIN TRY
        IF @release = 0
        BEGIN
            IF APPLOCK_MODE(N'sqlkmeans_operator', @lock, N'Session') = N'NoLock'
                EXECUTE @result = sys.sp_getapplock
                    @Resource = @lock, @LockMode = N'Exclusive', @LockOwner = N'Session',
                    @LockTimeout = @wait, @DbPrincipal = N'sqlkmeans_operator';
            IF @result >= 0 AND @keep = 1
               AND APPLOCK_MODE(N'sqlkmeans_operator', @kept, N'Session') = N'NoLock'
                EXECUTE @result = sys.sp_getapplock
                    @Resource = @kept, @LockMode = N'Exclusive', @LockOwner = N'Session',
                    @LockTimeout = 1, @DbPrincipal = N'sqlkmeans_operator';
        END;
        ELSE
        BEGIN
            WHILE @keep = 1 AND @result >= 0
                  AND APPLOCK_MODE(N'sqlkmeans_operator', @kept, N'Session') <> N'NoLock'
                EXECUTE @result = sys.sp_releaseapplock
                    @Resource = @kept, @LockOwner = N'Session', @DbPrincipal = N'sqlkmeans_operator';
            WHILE @result >= 0
                  AND APPLOCK_MODE(N'sqlkmeans_operator', @kept, N'Session') = N'NoLock'
                  AND APPLOCK_MODE(N'sqlkmeans_operator', @lock, N'Session') <> N'NoLock'
                EXECUTE @result = sys.sp_releaseapplock
                    @Resource = @lock, @LockOwner = N'Session', @DbPrincipal = N'sqlkmeans_operator';
        END;
    END TRY
    BEGIN CATCH
        -- Who is no member of the role may not ask for its locks.
        SET @problem = @segmentation + N': its lock is for members of sqlkmeans_operator: '
            + ERROR_MESSAGE();
    END CATCH;

    IF @problem IS NULL AND @result = -1
        SELECT @number = 50005, @problem = @segmentation + N' is being run already; nothing was '
            + N'changed. Where nothing runs, a session whose call was cancelled still holds it, '
            + N'until it ends or runs it again (docs/operate.md, Who holds a segmentation)';
    ELSE IF @problem IS NULL AND @result < 0
        SET @problem = @segmentation + N': its lock was not '
            + CASE @release WHEN 1 THEN N'given back' ELSE N'taken' END + N', '
            + CASE @result WHEN -2 THEN N'because the wait was cancelled'
                           WHEN -3 THEN N'because the wait was part of a deadlock'
                           ELSE N'and the server said ' + CAST(@result AS nvarchar(20)) END
            + N'; nothing was changed';
    EXECUTE sqlkmeans.raise_problems @number = @number, @problems = @problem;
END;
GO
