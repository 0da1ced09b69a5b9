IF OBJECT_ID(N'sqlkmeans.train_segmentation', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_segmentation AS RETURN 0;');
GO
-- Trains on the rows of the caller's #sqlkmeans_input in T-SQL alone, stages the labels that change and
-- gives the publication. What the run has learnt stands in model_feature, centroid and feature_bin
-- before it is published; a run that fails forgets it.
ALTER PROCEDURE sqlkmeans.train_segmentation
    @run_id      bigint,
    @total       bigint,
    @publication nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @segmentation nvarchar(128);
    DECLARE @definition nvarchar(max);
    DECLARE @active bigint;
    DECLARE @last_segment_id int;
    DECLARE @k int;
    DECLARE @n_init int;
    DECLARE @seed bigint;
    DECLARE @features int;
    DECLARE @threshold float;
    DECLARE @n_iter int;
    DECLARE @rows bigint;
    DECLARE @total_ss float;
    DECLARE @begun datetime2(6) = SYSUTCDATETIME();
    DECLARE @fitted datetime2(6);
    DECLARE @share float;
    DECLARE @labels nvarchar(max);
    DECLARE @outliers bigint;

    SELECT @segmentation = r.segmentation, @definition = r.definition, @active = g.active_run_id,
        @last_segment_id = g.last_segment_id,
        @k = TRY_CAST(JSON_VALUE(r.definition, '$.k') AS int),
        @n_init = CAST(JSON_VALUE(r.definition, '$.n_init') AS int),
        @seed = CAST(JSON_VALUE(r.definition, '$.seed') AS bigint)
    FROM sqlkmeans.run AS r
    INNER JOIN sqlkmeans.segmentation AS g ON g.name = r.segmentation
    WHERE r.run_id = @run_id;

    CREATE TABLE #sqlkmeans_column
    (
        number     int            NOT NULL PRIMARY KEY,
        name       nvarchar(128)  COLLATE DATABASE_DEFAULT NOT NULL,
        type       nvarchar(16)   COLLATE DATABASE_DEFAULT NOT NULL,
        transform  nvarchar(16)   COLLATE DATABASE_DEFAULT NOT NULL,
        weight     float          NOT NULL,
        value      nvarchar(60)   COLLATE DATABASE_DEFAULT NOT NULL,
        low_share  float          NULL,
        high_share float          NULL,
        absent     bigint         NOT NULL,
        known      bigint         NOT NULL,
        skipped    bigint         NOT NULL,
        usable     bit            NOT NULL,
        problem    nvarchar(max)  COLLATE DATABASE_DEFAULT NULL,
        weights    float          NULL,
        squares    float          NULL,
        least      float          NULL,
        greatest   float          NULL,
        fractions  bigint         NULL,
        floors     bigint         NULL,
        mean       float          NULL,
        fill       float          NULL,
        fill_value float          NULL,
        low        float          NULL,
        high       float          NULL,
        origin     float          NULL,
        center     float          NULL,
        scale      float          NULL
    );
    CREATE TABLE #sqlkmeans_sample
    (
        [sqlkmeans row]    int    NULL,
        [sqlkmeans weight] float  NOT NULL,
        place              bigint NOT NULL
    );
    CREATE TABLE #sqlkmeans_border
    (
        level                int   NOT NULL,
        [sqlkmeans row]      int   NOT NULL,
        [sqlkmeans previous] int   NULL,
        [sqlkmeans weight]   float NOT NULL
    );
    CREATE TABLE #sqlkmeans_moved
    (
        kept      bit    NOT NULL,
        cluster   int    NOT NULL,
        previous  int    NULL,
        customers bigint NOT NULL,
        weight    float  NOT NULL,
        squares   float  NOT NULL
    );
    CREATE TABLE #sqlkmeans_prepared
    (
        [sqlkmeans row]      int   NULL,
        [sqlkmeans previous] int   NULL,
        [sqlkmeans before]   float NULL,
        [sqlkmeans flagged]  bit   NULL,
        [sqlkmeans weight]   float NOT NULL
    );
    CREATE TABLE #sqlkmeans_scored
    (
        [sqlkmeans previous] int   NULL,
        [sqlkmeans before]   float NULL,
        [sqlkmeans flagged]  bit   NULL,
        [sqlkmeans weight]   float NOT NULL,
        [sqlkmeans cluster]  int   NOT NULL,
        [sqlkmeans distance] float NOT NULL
    );
    CREATE TABLE #sqlkmeans_centroid (cluster int NOT NULL PRIMARY KEY);
    CREATE TABLE #sqlkmeans_point
    (
        cluster      int   NOT NULL,
        position     int   NOT NULL,
        scaled_value float NOT NULL,
        value        float NOT NULL
    );
    CREATE TABLE #sqlkmeans_cluster
    (
        cluster          int    NOT NULL,
        segment_id       int    NULL,
        size             bigint NOT NULL,
        within_ss        float  NOT NULL,
        inertia          float  NOT NULL,
        weight           float  NOT NULL,
        distance         float  NOT NULL,
        centroid_shift   float  NULL,
        outlier_distance float  NULL,
        outliers         bigint NULL
    );
    CREATE TABLE #sqlkmeans_overlap
    (
        cluster   int    NOT NULL,
        previous  int    NULL,
        customers bigint NOT NULL,
        distance  float  NOT NULL,
        within_ss float  NOT NULL,
        inertia   float  NOT NULL,
        weight    float  NOT NULL
    );
    CREATE TABLE #sqlkmeans_edge
    (
        position  int    NOT NULL,
        number    int    NOT NULL,
        upper     float  NOT NULL,
        customers bigint NULL
    );
    CREATE TABLE #sqlkmeans_profile
    (
        cluster    int    NOT NULL,
        position   int    NOT NULL,
        known      bigint NOT NULL,
        mean       float  NULL,
        deviation  float  NULL,
        lowest     float  NULL,
        median     float  NULL,
        highest    float  NULL,
        importance float  NULL
    );
    CREATE TABLE #sqlkmeans_named
    (
        segment_id  int           NOT NULL PRIMARY KEY,
        name        nvarchar(400) COLLATE DATABASE_DEFAULT NOT NULL,
        name_source nvarchar(16)  COLLATE DATABASE_DEFAULT NOT NULL,
        description nvarchar(max) COLLATE DATABASE_DEFAULT NOT NULL
    );
    CREATE TABLE #sqlkmeans_bin (position int NOT NULL, bin int NOT NULL, customers bigint NOT NULL);
    CREATE TABLE #sqlkmeans_drift
    (
        position               int           NOT NULL,
        feature                nvarchar(400) COLLATE DATABASE_DEFAULT NOT NULL,
        psi                    float         NOT NULL,
        mean                   float         NULL,
        previous_mean          float         NULL,
        missing_share          float         NOT NULL,
        previous_missing_share float         NOT NULL
    );

    EXECUTE sqlkmeans.train_columns
        @run_id = @run_id, @definition = @definition, @reference_date = @begun;
    EXECUTE sqlkmeans.train_rows
        @run_id = @run_id, @definition = @definition, @features = @features OUTPUT,
        @rows = @rows OUTPUT;
    EXECUTE sqlkmeans.train_seed
        @run_id = @run_id, @k = @k, @features = @features, @rows = @rows, @n_init = @n_init,
        @seed = @seed, @threshold = @threshold OUTPUT, @n_iter = @n_iter OUTPUT;
    EXECUTE sqlkmeans.train_passes
        @run_id = @run_id, @k = @k, @features = @features, @threshold = @threshold,
        @n_iter = @n_iter OUTPUT;
    SET @fitted = SYSUTCDATETIME();
    EXECUTE sqlkmeans.train_bins @run_id = @run_id;
    EXECUTE sqlkmeans.train_labels
        @run_id = @run_id, @active = @active, @last_segment_id = @last_segment_id,
        @definition = @definition, @k = @k, @features = @features, @total_ss = @total_ss OUTPUT;
    SET @share = TRY_CAST(JSON_VALUE(@definition, '$.outlier') AS float);
    EXECUTE sqlkmeans.mark_outliers @share = @share, @outliers = @outliers OUTPUT;
    EXECUTE sqlkmeans.count_bins @run_id = @run_id, @scored_run_id = @run_id;
    -- Skipped rows count in the bins of what is missing: a broken load has most.
    UPDATE b
    SET customers = n.customers + CASE b.bin WHEN 0 THEN c.skipped ELSE 0 END
    FROM sqlkmeans.feature_bin AS b
    INNER JOIN #sqlkmeans_bin AS n ON n.position = b.position AND n.bin = b.bin
    INNER JOIN #sqlkmeans_column AS c ON c.name = b.feature
    WHERE b.run_id = @run_id;
    EXECUTE sqlkmeans.train_names
        @run_id = @run_id, @active = @active, @segmentation = @segmentation;
    EXECUTE sqlkmeans.train_publication
        @run_id = @run_id, @definition = @definition, @active = @active,
        @last_segment_id = @last_segment_id, @rows = @rows, @total = @total,
        @total_ss = @total_ss, @n_iter = @n_iter, @begun = @begun, @fitted = @fitted,
        @publication = @publication OUTPUT;
    SET @labels = sqlkmeans.labels_text(JSON_QUERY(@definition, '$.key'));
    EXECUTE sqlkmeans.profile_columns
        @definition = @definition, @labels = @labels, @medians = 1,
        @publication = @publication OUTPUT;
    EXECUTE sqlkmeans.stage_changes
        @run_id = @run_id, @definition = @definition, @publication = @publication OUTPUT;
END;
GO
