IF OBJECT_ID(N'sqlkmeans.job_name', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.job_name (@segmentation nvarchar(128), @step nvarchar(20))
        RETURNS nvarchar(400) AS BEGIN RETURN NULL; END;');
GO
-- The name of the Agent job of a segmentation and a step; without a segmentation, of the database and
-- a step. Agent takes 128 characters.
ALTER FUNCTION sqlkmeans.job_name (@segmentation nvarchar(128), @step nvarchar(20))
RETURNS nvarchar(400)
AS
BEGIN
    RETURN N'sqlkmeans: ' + DB_NAME() + COALESCE(N'.' + @segmentation, N'') + N' (' + @step + N')';
END;
GO
