IF OBJECT_ID(N'sqlkmeans.assign_segments', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.assign_segments AS RETURN 0;');
GO
-- Labels new, changed and departed customers with the stored model, in SQL alone, and publishes.
ALTER PROCEDURE sqlkmeans.assign_segments
    @segmentation nvarchar(128) = NULL,
    @run_id       bigint        = NULL OUTPUT,
    @medians      bit           = 1,
    @quiet        bit           = 0,
    @help         bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@segmentation', N'nvarchar(128)', N'NULL',
                N'A segmentation that has a model; the caller must be able to read its source.'),
            (2, N'@run_id', N'bigint OUTPUT', N'NULL', N'The run that records the assignment.'),
            (3, N'@medians', N'bit', N'1',
                N'0 leaves out the medians of the profile, the only figures that take a second look at the rows.'),
            (4, N'@quiet', N'bit', N'0', N'1 gives no row back, for a procedure that calls this one.'),
            (5, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @problems nvarchar(max);
    DECLARE @definition nvarchar(max);
    DECLARE @source nvarchar(max);
    DECLARE @relation nvarchar(max);
    DECLARE @key nvarchar(max);
    DECLARE @missing nvarchar(16);
    DECLARE @active bigint;
    DECLARE @last_segment_id int;
    DECLARE @values nvarchar(max);
    DECLARE @scaled nvarchar(max);
    DECLARE @features int;
    DECLARE @near bigint;
    DECLARE @target nvarchar(1000);
    DECLARE @target_id bigint;
    DECLARE @warnings nvarchar(max);
    DECLARE @psi float;
    DECLARE @mean_distance float;
    DECLARE @statement nvarchar(max);
    DECLARE @staging nvarchar(200);
    DECLARE @publication nvarchar(max);
    DECLARE @tables nvarchar(max);
    DECLARE @labels nvarchar(max);
    DECLARE @members nvarchar(max);
    DECLARE @rows bigint;
    DECLARE @total bigint;
    DECLARE @inertia float;
    DECLARE @k int;
    DECLARE @outliers bigint;
    DECLARE @arrived bigint;
    DECLARE @moved bigint;
    DECLARE @departed bigint;
    DECLARE @written bigint;
    DECLARE @error nvarchar(max);
    DECLARE @begun datetime2(6) = SYSUTCDATETIME();

    SELECT @definition = g.definition, @active = g.active_run_id, @last_segment_id = g.last_segment_id
    FROM sqlkmeans.segmentation AS g
    WHERE g.name = @segmentation;
    SELECT @missing = JSON_VALUE(r.definition, '$.missing') FROM sqlkmeans.run AS r WHERE r.run_id = @active;
    SELECT @k = COUNT(DISTINCT c.segment_id) FROM sqlkmeans.centroid AS c WHERE c.run_id = @active;

    IF @definition IS NULL
        SET @problems = N'@segmentation: ' + COALESCE(@segmentation, N'NULL')
            + N' given; allowed: the name of a segmentation in sqlkmeans.segmentation';
    ELSE IF @active IS NULL
        SET @problems = @segmentation + N': no model yet; the first run makes it';
    EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;

    -- A category has several features, one after the other.
    IF EXISTS (
        SELECT 1
        FROM OPENJSON(@definition, '$.features') AS j
        FULL JOIN (SELECT ROW_NUMBER() OVER (ORDER BY MIN(m.position)) AS position, m.source_column,
                       m.type, m.transform, m.weight
                   FROM sqlkmeans.model_feature AS m
                   WHERE m.run_id = @active
                   GROUP BY m.source_column, m.type, m.transform, m.weight) AS f
            ON f.position = CAST(j.[key] AS int) + 1
           AND f.source_column = JSON_VALUE(j.[value], '$.column')
           AND f.type = COALESCE(JSON_VALUE(j.[value], '$.type'), N'number')
           AND f.transform = COALESCE(JSON_VALUE(j.[value], '$.transform'), N'none')
           AND f.weight = COALESCE(CAST(JSON_VALUE(j.[value], '$.weight') AS float), 1)
        WHERE f.position IS NULL OR j.[key] IS NULL)
    BEGIN
        SET @problems = @segmentation
            + N': the features are not those of the stored model; a run fits a new one';
        EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;
    END;

    SELECT @source = j.source FROM OPENJSON(@definition) WITH (source nvarchar(max) '$.source') AS j;
    SET @relation = sqlkmeans.relation(@source);
    SET @key = JSON_QUERY(@definition, '$.key');

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

    EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @keep = 1;

    BEGIN TRY
        EXECUTE sqlkmeans.start_run
            @segmentation = @segmentation, @kind = N'assign', @engine = N'tsql',
            @run_id = @run_id OUTPUT;
        SET @staging = N'sqlkmeans.' + QUOTENAME(N'staging_' + CAST(@run_id AS nvarchar(20)));

        EXECUTE sqlkmeans.scoring_text
            @run_id = @active, @row = 1, @values = @values OUTPUT, @scaled = @scaled OUTPUT;
        SELECT @features = MAX(f.position) FROM sqlkmeans.model_feature AS f WHERE f.run_id = @active;
        -- Two numbers a feature beside a key of 900 bytes fill the 8,060 of a row.
        IF @features > 430
        BEGIN
            SET @problems = N'the model has ' + CAST(@features AS nvarchar(10)) + N' features (levels '
                + N'of categories count); allowed in T-SQL: 430; assign with the client: sqlkmeans assign';
            EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;
        END;

        -- In the order of their segment ids, because a tie goes to the lowest.
        INSERT INTO #sqlkmeans_point (cluster, position, scaled_value, value)
        SELECT DENSE_RANK() OVER (ORDER BY c.segment_id), c.position, c.scaled_value, c.value
        FROM sqlkmeans.centroid AS c
        WHERE c.run_id = @active;
        INSERT INTO #sqlkmeans_cluster
            (cluster, segment_id, size, within_ss, inertia, weight, distance, outlier_distance)
        SELECT ROW_NUMBER() OVER (ORDER BY c.segment_id), c.segment_id, 0, 0e0, 0e0, 0e0, 0e0,
            c.outlier_distance
        FROM sqlkmeans.centroid AS c
        WHERE c.run_id = @active AND c.position = 1;

        EXECUTE sqlkmeans.widen_tables @run_id = @run_id, @key = @key, @features = @features;

        -- Reads the source once, as the caller, so that labels and profile are of the same moment.
        -- Scaled values are kept, so that a logarithm is taken once a row.
        SET @target = sqlkmeans.quoted_name(JSON_VALUE(@definition, '$.target'), N'');
        EXECUTE sqlkmeans.as_owner
            @statement = N'SET @arrived = OBJECT_ID(@text);', @text = @target,
            @arrived = @target_id OUTPUT;
        SET @statement = N'INSERT INTO #sqlkmeans_prepared WITH (TABLOCK) ([sqlkmeans weight], [sqlkmeans previous], [sqlkmeans before], [sqlkmeans flagged], '
            + sqlkmeans.each_name(@key, N'{}', N', ')
            + sqlkmeans.each_number(@features, N', [sqlkmeans o{}], [sqlkmeans z{}]', N'') + N')
SELECT 1e0, ' + CASE WHEN @target_id IS NULL THEN N'NULL, NULL, NULL, '
                                  ELSE N'p.segment_id, p.distance, p.is_outlier, ' END
            + sqlkmeans.each_name(@key, N's.{}', N', ')
            + sqlkmeans.each_number(@features, N', o.o{}, z.z{}', N'') + N'
FROM ' + @relation + CASE WHEN @target_id IS NULL THEN N'' ELSE N'
LEFT JOIN ' + @target + N' AS p ON ' + sqlkmeans.each_name(@key, N'p.{} = s.{}', N' AND ') END + N'
CROSS APPLY (SELECT ' + @values + N') AS o
' + @scaled + N';
SET @total = ROWCOUNT_BIG();';
        EXECUTE sys.sp_executesql @statement, N'@total bigint OUTPUT', @total = @total OUTPUT;
        -- Also where an index of the source has each key once: at READ COMMITTED a row that an update
        -- moves ahead of the scan is read again.
        EXECUTE sqlkmeans.check_keys @relation = N'#sqlkmeans_prepared AS s', @key = @key;
        EXECUTE sqlkmeans.score_rows @key = @key, @k = @k, @features = @features, @rows = @rows OUTPUT;

        IF @rows = 0
            EXECUTE sqlkmeans.raise_problems @number = 50003,
                @problems = N'source: no row that can be labelled; nothing was changed';
        IF @rows < @total AND @missing = N'error'
        BEGIN
            SET @problems = N'source: ' + CAST(@total - @rows AS nvarchar(20))
                + N' rows have a NULL, or a value that log1p does not take, in a feature, and '
                + N'missing = "error"; correct the rows, or set missing to "skip", "mean" or "median"';
            EXECUTE sqlkmeans.raise_problems @number = 50003, @problems = @problems;
        END;

        -- Medians lie near those that were published last.
        SELECT @near = MAX(r.run_id)
        FROM sqlkmeans.run AS r
        WHERE r.segmentation = @segmentation AND r.status = N'published' AND r.model_run_id = @active
          AND EXISTS (SELECT 1 FROM sqlkmeans.segment_feature AS f
                      WHERE f.run_id = r.run_id AND f.median IS NOT NULL);
        EXECUTE sqlkmeans.describe_scored
            @run_id = @active, @active = @active, @features = @features, @medians = @medians,
            @near = @near;
        EXECUTE sqlkmeans.mark_outliers @share = NULL, @outliers = @outliers OUTPUT;
        EXECUTE sqlkmeans.count_bins @run_id = @active, @scored_run_id = @active;
        SELECT @inertia = SUM(c.within_ss), @mean_distance = SUM(c.distance * c.size) / @rows
        FROM #sqlkmeans_cluster AS c;

        EXECUTE sqlkmeans.watch_labels
            @model_run_id = @active, @definition = @definition, @rows = @rows,
            @mean_distance = @mean_distance, @warnings = @warnings OUTPUT;
        SELECT @psi = MAX(d.psi) FROM #sqlkmeans_drift AS d;
        IF @warnings <> N''
            SET @warnings = N'a refit is due: ' + REPLACE(LEFT(@warnings, LEN(@warnings) - 1), NCHAR(10),
                NCHAR(10) + N'a refit is due: ') + NCHAR(10);
        IF @outliers IS NULL AND TRY_CAST(JSON_VALUE(@definition, '$.outlier') AS float) IS NOT NULL
            SET @warnings = N'the model of run ' + CAST(@active AS nvarchar(20))
                + N' has no limits, so nobody is an outlier until the next run finds them' + NCHAR(10)
                + @warnings;
        IF @total > @rows
            SET @warnings = CAST(@total - @rows AS nvarchar(20))
                + N' rows were skipped because a feature is missing' + NCHAR(10) + @warnings;
        EXECUTE sqlkmeans.profile_json
            @model_run_id = @active, @rows = @rows, @members = @members OUTPUT;
        SET @tables = N'{"segment":' + (
            SELECT s.segment_id, s.name, s.name_source, s.description, COALESCE(c.size, @rows) AS size,
                COALESCE(c.size, @rows) / CAST(@rows AS float) AS share,
                COALESCE(c.within_ss, @inertia) AS within_ss,
                CASE s.segment_id WHEN 0 THEN @outliers ELSE c.outliers END AS outliers
            FROM sqlkmeans.segment AS s
            LEFT JOIN #sqlkmeans_cluster AS c ON c.segment_id = s.segment_id
            WHERE s.run_id = @active
            FOR JSON PATH
        ) + N',' + @members + COALESCE(N',"feature_bin":' + (
            SELECT b.position, b.bin, b.feature, b.label, b.upper,
                COALESCE(n.customers, 0) AS customers
            FROM sqlkmeans.feature_bin AS b
            LEFT JOIN #sqlkmeans_bin AS n ON n.position = b.position AND n.bin = b.bin
            WHERE b.run_id = @active
            FOR JSON PATH
        ), N'') + N'}';
        SET @publication = N'{"model_run_id":' + CAST(@active AS nvarchar(20))
            + N',"last_segment_id":' + CAST(@last_segment_id AS nvarchar(10))
            + N',"distance_tolerance":0,"run":{"rows":' + CAST(@rows AS nvarchar(20))
            + N',"skipped":' + CAST(@total - @rows AS nvarchar(20))
            + N',"k":' + CAST(@k AS nvarchar(10))
            + N',"inertia":' + LTRIM(RTRIM(CONVERT(nvarchar(40), @inertia, 3)))
            + N',"seconds_assign":'
            + CAST(DATEDIFF(millisecond, @begun, SYSUTCDATETIME()) / 1000.0 AS nvarchar(40))
            + N',"compared_run_id":' + CAST(@active AS nvarchar(20))
            + N',"mean_distance":' + LTRIM(RTRIM(CONVERT(nvarchar(40), @mean_distance, 3)))
            + COALESCE(N',"outliers":' + CAST(@outliers AS nvarchar(20)), N'')
            + COALESCE(N',"psi":' + LTRIM(RTRIM(CONVERT(nvarchar(40), @psi, 3))), N'')
            + N',"warnings":' + sqlkmeans.json_lines(@warnings) + N'},"tables":' + @tables + N'}';
        SET @labels = sqlkmeans.labels_text(@key);
        EXECUTE sqlkmeans.profile_columns
            @definition = @definition, @labels = @labels, @medians = @medians,
            @publication = @publication OUTPUT;
        EXECUTE sqlkmeans.stage_changes
            @run_id = @run_id, @definition = @definition, @publication = @publication OUTPUT;

        EXECUTE sqlkmeans.publish_staged
            @run_id = @run_id, @publication = @publication, @arrived = @arrived OUTPUT,
            @moved = @moved OUTPUT, @departed = @departed OUTPUT, @written = @written OUTPUT;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1, @keep = 1;
    END TRY
    BEGIN CATCH
        SET @error = ERROR_MESSAGE();
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        IF EXISTS (SELECT 1 FROM sqlkmeans.run AS r WHERE r.run_id = @run_id)
            EXECUTE sqlkmeans.fail_run @run_id = @run_id, @error = @error;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1, @keep = 1;
        THROW;
    END CATCH;

    IF @quiet = 0
        SELECT @run_id AS run_id, @rows AS [rows], @total - @rows AS skipped, @arrived AS arrived,
            @moved AS moved, @departed AS departed, @written AS written;
END;
GO
