IF OBJECT_ID(N'sqlkmeans.forget_model', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.forget_model AS RETURN 0;');
GO
-- Deletes what a run that was not published has learnt so far.
ALTER PROCEDURE sqlkmeans.forget_model
    @run_id bigint
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DELETE FROM sqlkmeans.model_feature WHERE run_id = @run_id;
    DELETE FROM sqlkmeans.centroid WHERE run_id = @run_id;
    DELETE FROM sqlkmeans.feature_bin WHERE run_id = @run_id;
END;
GO
