IF OBJECT_ID(N'sqlkmeans.take_lock', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.take_lock AS RETURN 0;');
GO
-- Takes or gives back a segmentation's application lock for this session. A session that holds it
-- may take it again, and gives it back as often as it took it.
ALTER PROCEDURE sqlkmeans.take_lock
    @segmentation nvarchar(128),
    @release      bit = 0
AS
BEGIN
    SET NOCOUNT ON;

    -- Lock names are compared byte by byte, whatever the collation of the names in the table. Not
    -- every server keeps those of its databases apart.
    DECLARE @resource nvarchar(255) = N'sqlkmeans:' + DB_NAME() + N':' + LOWER(@segmentation);
    DECLARE @result int;

    IF @release = 1
    BEGIN
        IF APPLOCK_MODE(N'public', @resource, N'Session') <> N'NoLock'
            EXECUTE sys.sp_releaseapplock
                @Resource = @resource, @LockOwner = N'Session', @DbPrincipal = N'public';
        RETURN 0;
    END;

    EXECUTE @result = sys.sp_getapplock
        @Resource = @resource, @LockMode = N'Exclusive', @LockOwner = N'Session',
        @LockTimeout = 0, @DbPrincipal = N'public';

    IF @result < 0
    BEGIN
        DECLARE @problem nvarchar(max) =
            @segmentation + N' is being run already; nothing was changed';
        EXECUTE sqlkmeans.raise_problems @number = 50005, @problems = @problem;
    END;
END;
GO
