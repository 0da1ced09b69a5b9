IF OBJECT_ID(N'sqlkmeans.publication_time', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.publication_time (@segmentation nvarchar(128))
        RETURNS datetime2(6) AS BEGIN RETURN NULL; END;');
GO
-- Now, but later than the last publication, so that "as of" tells the two apart.
ALTER FUNCTION sqlkmeans.publication_time (@segmentation nvarchar(128))
RETURNS datetime2(6)
AS
BEGIN
    DECLARE @now datetime2(6) = SYSUTCDATETIME();
    DECLARE @last datetime2(6);

    SELECT @last = MAX(r.published_at)
    FROM sqlkmeans.run AS r
    WHERE r.segmentation = @segmentation AND r.status = N'published';

    RETURN CASE WHEN @now <= @last THEN DATEADD(microsecond, 1, @last) ELSE @now END;
END;
GO
