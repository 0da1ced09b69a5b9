IF OBJECT_ID(N'sqlkmeans.refresh_function', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.refresh_function AS RETURN 0;');
GO
-- Makes the functions assign_<segmentation> and explain_<segmentation> anew from the active model.
-- Where that fails, the run stays published and gets a warning: labels matter more than a function.
ALTER PROCEDURE sqlkmeans.refresh_function
    @segmentation nvarchar(128),
    @run_id       bigint
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @assign nvarchar(300) = N'sqlkmeans.' + QUOTENAME(N'assign_' + @segmentation);
    DECLARE @function nvarchar(300) = @assign;
    DECLARE @parameters nvarchar(max);
    DECLARE @query nvarchar(max);
    DECLARE @statement nvarchar(max);
    DECLARE @active bigint;

    SELECT @active = g.active_run_id FROM sqlkmeans.segmentation AS g WHERE g.name = @segmentation;
    IF NOT EXISTS (SELECT 1 FROM sqlkmeans.centroid AS c WHERE c.run_id = @active)
        RETURN 0;

    BEGIN TRY
        EXECUTE sqlkmeans.scoring_text
            @run_id = @active, @row = 0, @parameters = @parameters OUTPUT, @query = @query OUTPUT;
        WHILE 1 = 1
        BEGIN
            SET @statement = CASE WHEN OBJECT_ID(@function, N'IF') IS NULL THEN N'CREATE' ELSE N'ALTER' END
                + N' FUNCTION ' + @function + N' (' + @parameters + N')' + NCHAR(10)
                + N'RETURNS TABLE' + NCHAR(10) + N'AS' + NCHAR(10) + N'RETURN (' + NCHAR(10) + @query
                + NCHAR(10) + N');';
            EXECUTE sqlkmeans.as_owner @statement = N'EXECUTE (@text);', @text = @statement;

            -- The other one calls the one that scores, so it comes second.
            IF @function <> @assign
                BREAK;
            SET @function = N'sqlkmeans.' + QUOTENAME(N'explain_' + @segmentation);
            EXECUTE sqlkmeans.explaining_text
                @run_id = @active, @scorer = @assign, @query = @query OUTPUT;
        END;
    END TRY
    BEGIN CATCH
        IF XACT_STATE() = -1
            THROW;
        SET @statement = N'the function ' + @function + N' was not made anew: ' + ERROR_MESSAGE();
        EXECUTE sqlkmeans.add_warning @run_id = @run_id, @warning = @statement;
    END CATCH;
END;
GO
