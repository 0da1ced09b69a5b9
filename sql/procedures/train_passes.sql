IF OBJECT_ID(N'sqlkmeans.train_passes', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_passes AS RETURN 0;');
GO
-- Passes over all rows of the caller's #sqlkmeans_prepared until its #sqlkmeans_centroid rests, or as
-- many as may be. Each counts in the run's row, outside any transaction, so that others see how far
-- it is.
ALTER PROCEDURE sqlkmeans.train_passes
    @run_id    bigint,
    @k         int,
    @features  int,
    @threshold float,
    @n_iter    int OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @text nvarchar(max) = sqlkmeans.pass_text(N'#sqlkmeans_prepared', @k, @features);
    DECLARE @passes int = 0;
    DECLARE @most int = sqlkmeans.shared_number(N'max_iter');
    DECLARE @shift float;
    DECLARE @inertia float;
    DECLARE @message nvarchar(400);

    WHILE @passes < @most AND (@shift IS NULL OR @shift > @threshold)
    BEGIN
        EXECUTE sys.sp_executesql @text, N'@k int, @shift float OUTPUT, @inertia float OUTPUT',
            @k = @k, @shift = @shift OUTPUT, @inertia = @inertia OUTPUT;
        SET @passes = @passes + 1;
        SET @n_iter = @n_iter + 1;

        UPDATE sqlkmeans.run
        SET n_iter = @n_iter, inertia = @inertia
        WHERE run_id = @run_id;
        SET @message = N'run ' + CAST(@run_id AS nvarchar(20)) + N': pass '
            + CAST(@passes AS nvarchar(10)) + N' over all rows, inertia '
            + sqlkmeans.number_text(@inertia);
        RAISERROR (@message, 0, 1) WITH NOWAIT;
    END;
END;
GO
