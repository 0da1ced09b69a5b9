IF OBJECT_ID(N'sqlkmeans.profile_text', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.profile_text AS RETURN 0;');
GO
-- Parts of the statement that profiles labelled rows: @kept takes the features in their own units
-- from a row o into #scored, and @each makes of a row s of #scored the rows v (position, value).
ALTER PROCEDURE sqlkmeans.profile_text
    @run_id bigint,
    @kept   nvarchar(max) OUTPUT,
    @each   nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @position int = 0;
    DECLARE @x nvarchar(10);
    DECLARE @comma nvarchar(2) = N'';

    SET @kept = N'';
    SET @each = N'CROSS APPLY (VALUES ';
    WHILE 1 = 1
    BEGIN
        SELECT @position = MIN(f.position)
        FROM sqlkmeans.model_feature AS f
        WHERE f.run_id = @run_id AND f.position > @position;
        IF @position IS NULL
            BREAK;
        SET @x = CAST(@position AS nvarchar(10));
        SET @kept = @kept + N', o.o' + @x + N' AS [sqlkmeans o' + @x + N']';
        SET @each = @each + @comma + N'(' + @x + N', s.[sqlkmeans o' + @x + N'])';
        SET @comma = N', ';
    END;
    SET @each = @each + N') AS v (position, value)';
END;
GO
