IF OBJECT_ID(N'sqlkmeans.label_rows', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.label_rows AS RETURN 0;');
GO
-- Makes the tables that labels in T-SQL alone are found in and described from, has a run of the kind
-- 'assign' fill them with the published model (assign_rows) and any other with one that it trains on
-- the caller's #sqlkmeans_input (train_segmentation), and stages the labels that change.
ALTER PROCEDURE sqlkmeans.label_rows
    @run_id      bigint,
    @medians     bit,
    @total       bigint        OUTPUT,
    @publication nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @kind nvarchar(16);
    DECLARE @definition nvarchar(max);
    DECLARE @labels nvarchar(max);

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

    SELECT @kind = r.kind, @definition = r.definition FROM sqlkmeans.run AS r WHERE r.run_id = @run_id;
    IF @kind = N'assign'
        EXECUTE sqlkmeans.assign_rows
            @run_id = @run_id, @medians = @medians, @total = @total OUTPUT, @publication = @publication OUTPUT;
    ELSE
        EXECUTE sqlkmeans.train_segmentation
            @run_id = @run_id, @total = @total, @publication = @publication OUTPUT;
    SET @labels = sqlkmeans.labels_text(JSON_QUERY(@definition, '$.key'));
    EXECUTE sqlkmeans.profile_columns
        @definition = @definition, @labels = @labels, @medians = @medians,
        @publication = @publication OUTPUT;
    EXECUTE sqlkmeans.stage_changes
        @run_id = @run_id, @definition = @definition, @publication = @publication OUTPUT;
END;
GO
