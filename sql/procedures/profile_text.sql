IF OBJECT_ID(N'sqlkmeans.profile_text', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.profile_text AS RETURN 0;');
GO
-- The features of a row s as rows v (position, value), as text of a CROSS APPLY.
ALTER PROCEDURE sqlkmeans.profile_text
    @run_id    bigint,
    @statement nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @position int = 0;
    DECLARE @feature nvarchar(128);
    DECLARE @comma nvarchar(2) = N'';

    SET @statement = N'CROSS APPLY (VALUES ';
    WHILE 1 = 1
    BEGIN
        SET @feature = NULL;
        SELECT TOP (1) @position = f.position, @feature = f.feature
        FROM sqlkmeans.model_feature AS f
        WHERE f.run_id = @run_id AND f.position > @position
        ORDER BY f.position;
        IF @feature IS NULL
            BREAK;
        SET @statement = @statement + @comma + N'(' + CAST(@position AS nvarchar(10)) + N', CAST(s.'
            + QUOTENAME(@feature) + N' AS float))';
        SET @comma = N', ';
    END;
    SET @statement = @statement + N') AS v (position, value)';
END;
GO
