IF OBJECT_ID(N'sqlkmeans.finish_run', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.finish_run AS RETURN 0;');
GO
-- Records a run as published, makes its model the active one and drops what it staged.
ALTER PROCEDURE sqlkmeans.finish_run
    @segmentation nvarchar(128),
    @run_id       bigint,
    @model_run_id bigint,
    @now          datetime2(6),
    @arrived      bigint,
    @moved        bigint,
    @departed     bigint,
    @written      bigint
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    UPDATE sqlkmeans.run
    SET status = N'published',
        model_run_id = @model_run_id,
        changed = @arrived + @moved + @departed,
        arrived = @arrived,
        moved = @moved,
        departed = @departed,
        written = @written,
        published_at = @now,
        finished_at = @now,
        error = NULL
    WHERE run_id = @run_id;

    UPDATE sqlkmeans.segmentation
    SET active_run_id = @model_run_id, updated_at = @now
    WHERE name = @segmentation;

    EXECUTE sqlkmeans.drop_staging @run_id = @run_id;
END;
GO
