IF OBJECT_ID(N'sqlkmeans.train_segmentation', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_segmentation AS RETURN 0;');
GO
-- Trains on the rows of the caller's #sqlkmeans_input in T-SQL alone: fills its #sqlkmeans_label and gives the
-- publication. What the run has learnt stands in model_feature, centroid and feature_bin before it
-- is published; a run that fails forgets it.
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
    DECLARE @squared nvarchar(max);
    DECLARE @statement nvarchar(max);
    DECLARE @kept nvarchar(max);
    DECLARE @problems nvarchar(max);
    DECLARE @rows bigint;
    DECLARE @moved bigint;
    DECLARE @total_ss float;
    DECLARE @begun datetime2(6) = SYSUTCDATETIME();
    DECLARE @fitted datetime2(6);
    DECLARE @skipped bigint;

    SELECT @segmentation = r.segmentation, @definition = r.definition, @active = g.active_run_id,
        @last_segment_id = g.last_segment_id,
        @k = TRY_CAST(JSON_VALUE(r.definition, '$.k') AS int),
        @n_init = CAST(JSON_VALUE(r.definition, '$.n_init') AS int),
        @seed = CAST(JSON_VALUE(r.definition, '$.seed') AS bigint)
    FROM sqlkmeans.run AS r
    INNER JOIN sqlkmeans.segmentation AS g ON g.name = r.segmentation
    WHERE r.run_id = @run_id;

    IF @k IS NULL
    BEGIN
        SET @problems = N'k: ' + COALESCE(JSON_VALUE(@definition, '$.k'), N'NULL')
            + N' given; allowed with @engine = N''tsql'': a number, such as sqlkmeans choose-k '
            + N'recommends';
        EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;
    END;

    CREATE TABLE #sqlkmeans_skipped
    (
        name      nvarchar(128) COLLATE DATABASE_DEFAULT NOT NULL,
        customers bigint        NOT NULL
    );
    CREATE TABLE #sqlkmeans_scored
    (
        row_number          int   NOT NULL PRIMARY KEY,
        weight              float NOT NULL,
        [sqlkmeans cluster] int   NULL
    );
    CREATE TABLE #sqlkmeans_sample
    (
        row_number int   NOT NULL PRIMARY KEY,
        weight     float NOT NULL,
        closest    float NOT NULL
    );
    CREATE TABLE #sqlkmeans_candidate (trial int NOT NULL);
    CREATE TABLE #sqlkmeans_centroid (cluster int NOT NULL PRIMARY KEY);
    CREATE TABLE #sqlkmeans_best (cluster int NOT NULL PRIMARY KEY);
    CREATE TABLE #sqlkmeans_moved (cluster int NOT NULL PRIMARY KEY, inertia float NOT NULL);
    CREATE TABLE #sqlkmeans_point (cluster int NOT NULL, position int NOT NULL, scaled_value float NOT NULL);
    CREATE TABLE #sqlkmeans_cluster
    (
        cluster        int    NOT NULL PRIMARY KEY,
        segment_id     int    NULL,
        size           bigint NOT NULL,
        within_ss      float  NOT NULL,
        inertia        float  NOT NULL,
        weight         float  NOT NULL,
        distance       float  NOT NULL,
        centroid_shift float  NULL
    );
    CREATE TABLE #sqlkmeans_profile
    (
        segment_id int    NOT NULL,
        position   int    NOT NULL,
        mean       float  NULL,
        deviation  float  NULL,
        lowest     float  NULL,
        median     float  NULL,
        highest    float  NULL,
        known      bigint NOT NULL,
        missing    bigint NOT NULL
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

    EXECUTE sqlkmeans.train_prepare
        @run_id = @run_id, @definition = @definition, @reference_date = @begun;
    EXECUTE sqlkmeans.train_rows
        @run_id = @run_id, @definition = @definition, @features = @features OUTPUT;
    EXECUTE sqlkmeans.train_seed
        @run_id = @run_id, @k = @k, @features = @features, @n_init = @n_init, @seed = @seed,
        @threshold = @threshold OUTPUT, @n_iter = @n_iter OUTPUT;
    -- Passes over all rows are few and settle the result, so they go on for longer.
    SET @threshold = 0.1 * @threshold;
    EXECUTE sqlkmeans.train_passes
        @run_id = @run_id, @features = @features, @threshold = @threshold,
        @n_iter = @n_iter OUTPUT;
    SET @fitted = SYSUTCDATETIME();

    SET @squared = sqlkmeans.each_number(@features, N'(r.z{} - c.z{}) * (r.z{} - c.z{})', N' + ');
    SET @statement = N'
INSERT INTO #sqlkmeans_label (row_number, cluster, distance)
SELECT r.row_number, n.cluster, SQRT(n.squared)
FROM #sqlkmeans_scored AS r
CROSS APPLY (SELECT TOP (1) c.cluster, ' + @squared + N' AS squared
             FROM #sqlkmeans_centroid AS c ORDER BY squared, c.cluster) AS n;
INSERT INTO #sqlkmeans_point (cluster, position, scaled_value)
SELECT c.cluster, v.position, v.value FROM #sqlkmeans_centroid AS c
CROSS APPLY (VALUES ' + sqlkmeans.each_number(@features, N'({}, c.z{})', N', ')
        + N') AS v (position, value);
SELECT @rows = COUNT_BIG(*), @total_ss = '
        + sqlkmeans.each_number(@features, N'SUM((s.z{} - o.z{}) * (s.z{} - o.z{}))', N' + ') + N'
FROM #sqlkmeans_scored AS s
CROSS JOIN (SELECT ' + sqlkmeans.each_number(@features, N'AVG(a.z{}) AS z{}', N', ') + N'
            FROM #sqlkmeans_scored AS a) AS o;';
    EXECUTE sys.sp_executesql
        @statement, N'@rows bigint OUTPUT, @total_ss float OUTPUT',
        @rows = @rows OUTPUT, @total_ss = @total_ss OUTPUT;
    INSERT INTO #sqlkmeans_cluster (cluster, size, within_ss, inertia, weight, distance)
    SELECT c.cluster, 0, 0e0, 0e0, 0e0, 0e0 FROM #sqlkmeans_centroid AS c;
    EXECUTE sqlkmeans.train_sizes @k = @k;
    EXECUTE sqlkmeans.train_match
        @run_id = @run_id, @active = @active, @last_segment_id = @last_segment_id;

    -- A tie goes to the lowest segment id, as in the scoring function; so far it went to the lowest
    -- number of a cluster.
    SET @moved = 0;
    SET @statement = N'UPDATE l
SET cluster = n.cluster
FROM #sqlkmeans_label AS l
INNER JOIN #sqlkmeans_scored AS r ON r.row_number = l.row_number
CROSS APPLY (SELECT TOP (1) c.cluster, ' + @squared + N' AS squared
             FROM #sqlkmeans_centroid AS c
             INNER JOIN #sqlkmeans_cluster AS m ON m.cluster = c.cluster
             ORDER BY squared, m.segment_id) AS n
WHERE n.cluster <> l.cluster;
SET @moved = ROWCOUNT_BIG();';
    IF EXISTS (SELECT 1
               FROM #sqlkmeans_cluster AS a
               INNER JOIN #sqlkmeans_cluster AS b
                   ON b.cluster > a.cluster AND b.segment_id < a.segment_id)
        EXECUTE sys.sp_executesql @statement, N'@moved bigint OUTPUT', @moved = @moved OUTPUT;
    IF @moved > 0
        EXECUTE sqlkmeans.train_sizes @k = @k;
    UPDATE s
    SET [sqlkmeans cluster] = c.segment_id
    FROM #sqlkmeans_scored AS s
    INNER JOIN #sqlkmeans_label AS l ON l.row_number = s.row_number
    INNER JOIN #sqlkmeans_cluster AS c ON c.cluster = l.cluster;
    EXECUTE sqlkmeans.profile_text
        @run_id = @run_id, @kept = @kept OUTPUT, @statement = @statement OUTPUT;
    EXECUTE sys.sp_executesql @statement;
    EXECUTE sqlkmeans.train_names
        @run_id = @run_id, @active = @active, @segmentation = @segmentation;
    EXECUTE sqlkmeans.train_bins @run_id = @run_id;
    SET @skipped = @total - @rows;
    EXECUTE sqlkmeans.train_publication
        @run_id = @run_id, @definition = @definition, @active = @active,
        @last_segment_id = @last_segment_id, @rows = @rows, @skipped = @skipped,
        @total_ss = @total_ss, @n_iter = @n_iter, @begun = @begun, @fitted = @fitted,
        @publication = @publication OUTPUT;
END;
GO
