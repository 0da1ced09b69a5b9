IF OBJECT_ID(N'sqlkmeans.store_result', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.store_result AS RETURN 0;');
GO
-- Writes what a publication says of its run: the run's own columns, model and segments.
ALTER PROCEDURE sqlkmeans.store_result
    @run_id      bigint,
    @publication nvarchar(max)
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    UPDATE r
    SET k = COALESCE(j.k, r.k),
        [rows] = COALESCE(j.[rows], r.[rows]),
        skipped = COALESCE(j.skipped, r.skipped),
        inertia = COALESCE(j.inertia, r.inertia),
        n_iter = COALESCE(j.n_iter, r.n_iter),
        silhouette = COALESCE(j.silhouette, r.silhouette),
        davies_bouldin = COALESCE(j.davies_bouldin, r.davies_bouldin),
        calinski_harabasz = COALESCE(j.calinski_harabasz, r.calinski_harabasz),
        seconds_read = COALESCE(j.seconds_read, r.seconds_read),
        seconds_fit = COALESCE(j.seconds_fit, r.seconds_fit),
        seconds_assign = COALESCE(j.seconds_assign, r.seconds_assign),
        seconds_publish = COALESCE(j.seconds_publish, r.seconds_publish),
        seconds_total = COALESCE(j.seconds_total, r.seconds_total),
        sqlkmeans_version = COALESCE(j.sqlkmeans_version, r.sqlkmeans_version),
        library_versions = COALESCE(j.library_object, j.library_versions, r.library_versions),
        -- Behind those that the run has already.
        warnings = CASE
            WHEN COALESCE(r.warnings, N'[]') = N'[]'
                THEN COALESCE(j.warning_list, j.warnings, r.warnings)
            WHEN COALESCE(j.warning_list, j.warnings, N'[]') = N'[]' THEN r.warnings
            ELSE LEFT(r.warnings, LEN(r.warnings) - 1) + N', '
                + STUFF(COALESCE(j.warning_list, j.warnings), 1, 1, N'') END,
        compared_run_id = COALESCE(j.compared_run_id, r.compared_run_id),
        psi = COALESCE(j.psi, r.psi),
        centroid_shift = COALESCE(j.centroid_shift, r.centroid_shift),
        mean_distance = COALESCE(j.mean_distance, r.mean_distance),
        recommendation = COALESCE(j.recommendation_object, j.recommendation, r.recommendation),
        high_water = COALESCE(j.high_water, r.high_water),
        outliers = COALESCE(j.outliers, r.outliers)
    FROM sqlkmeans.run AS r
    CROSS JOIN OPENJSON(@publication, '$.run') WITH (
        k                 int           '$.k',
        [rows]            bigint        '$.rows',
        skipped           bigint        '$.skipped',
        inertia           float         '$.inertia',
        n_iter            int           '$.n_iter',
        silhouette        float         '$.silhouette',
        davies_bouldin    float         '$.davies_bouldin',
        calinski_harabasz float         '$.calinski_harabasz',
        seconds_read      float         '$.seconds_read',
        seconds_fit       float         '$.seconds_fit',
        seconds_assign    float         '$.seconds_assign',
        seconds_publish   float         '$.seconds_publish',
        seconds_total     float         '$.seconds_total',
        sqlkmeans_version nvarchar(64)  '$.sqlkmeans_version',
        -- As JSON, or as a text that holds JSON.
        library_object    nvarchar(max) '$.library_versions' AS JSON,
        library_versions  nvarchar(max) '$.library_versions',
        warning_list      nvarchar(max) '$.warnings' AS JSON,
        warnings          nvarchar(max) '$.warnings',
        compared_run_id   bigint        '$.compared_run_id',
        psi               float         '$.psi',
        centroid_shift    float         '$.centroid_shift',
        mean_distance     float         '$.mean_distance',
        recommendation_object nvarchar(max) '$.recommendation' AS JSON,
        recommendation    nvarchar(max) '$.recommendation',
        high_water        nvarchar(100) '$.high_water',
        outliers          bigint        '$.outliers'
    ) AS j
    WHERE r.run_id = @run_id;

    INSERT INTO sqlkmeans.model_feature
        (run_id, position, feature, transform, weight, center, scale, fill, source_column, type,
         level, low, high, reference_date)
    SELECT @run_id, j.position, j.feature, j.transform, j.weight, j.center, j.scale, j.fill,
        COALESCE(j.source_column, j.feature), COALESCE(j.type, N'number'), j.level, j.low, j.high,
        j.reference_date
    FROM OPENJSON(@publication, '$.tables.model_feature') WITH (
        position       int           '$.position',
        feature        nvarchar(400) '$.feature',
        transform      nvarchar(16)  '$.transform',
        weight         float         '$.weight',
        center         float         '$.center',
        scale          float         '$.scale',
        fill           float         '$.fill',
        source_column  nvarchar(128) '$.source_column',
        type           nvarchar(16)  '$.type',
        level          nvarchar(400) '$.level',
        low            float         '$.low',
        high           float         '$.high',
        reference_date date          '$.reference_date'
    ) AS j;

    INSERT INTO sqlkmeans.centroid
        (run_id, segment_id, position, feature, value, scaled_value, outlier_distance)
    SELECT @run_id, j.segment_id, j.position, j.feature, j.value, j.scaled_value,
        j.outlier_distance
    FROM OPENJSON(@publication, '$.tables.centroid') WITH (
        segment_id       int           '$.segment_id',
        position         int           '$.position',
        feature          nvarchar(400) '$.feature',
        value            float         '$.value',
        scaled_value     float         '$.scaled_value',
        outlier_distance float         '$.outlier_distance'
    ) AS j;

    INSERT INTO sqlkmeans.segment
        (run_id, segment_id, name, name_source, description, size, share, within_ss, [rule],
         rule_precision, rule_coverage, silhouette, centroid_shift, outliers)
    SELECT @run_id, j.segment_id, j.name, j.name_source, j.description, j.size, j.share,
        j.within_ss, j.[rule], j.rule_precision, j.rule_coverage, j.silhouette, j.centroid_shift,
        j.outliers
    FROM OPENJSON(@publication, '$.tables.segment') WITH (
        segment_id     int           '$.segment_id',
        name           nvarchar(400) '$.name',
        name_source    nvarchar(16)  '$.name_source',
        description    nvarchar(max) '$.description',
        size           bigint        '$.size',
        share          float         '$.share',
        within_ss      float         '$.within_ss',
        [rule]         nvarchar(max) '$.rule',
        rule_precision float         '$.rule_precision',
        rule_coverage  float         '$.rule_coverage',
        silhouette     float         '$.silhouette',
        centroid_shift float         '$.centroid_shift',
        outliers       bigint        '$.outliers'
    ) AS j;

    INSERT INTO sqlkmeans.segment_feature
        (run_id, segment_id, position, feature, mean, deviation, [min], median, [max], missing,
         importance)
    SELECT @run_id, j.segment_id, j.position, j.feature, j.mean, j.deviation, j.[min], j.median,
        j.[max], j.missing, j.importance
    FROM OPENJSON(@publication, '$.tables.segment_feature') WITH (
        segment_id int           '$.segment_id',
        position   int           '$.position',
        feature    nvarchar(400) '$.feature',
        mean       float         '$.mean',
        deviation  float         '$.deviation',
        [min]      float         '$.min',
        median     float         '$.median',
        [max]      float         '$.max',
        missing    bigint        '$.missing',
        importance float         '$.importance'
    ) AS j;

    INSERT INTO sqlkmeans.segment_profile
        (run_id, segment_id, position, source_column, type, level, known, missing, mean, deviation,
         median, share, difference, difference_low, difference_high)
    SELECT @run_id, j.segment_id, j.position, j.source_column, j.type, j.level, j.known, j.missing,
        j.mean, j.deviation, j.median, j.share, j.difference, j.difference_low, j.difference_high
    FROM OPENJSON(@publication, '$.tables.segment_profile') WITH (
        segment_id      int           '$.segment_id',
        position        int           '$.position',
        source_column   nvarchar(128) '$.source_column',
        type            nvarchar(16)  '$.type',
        level           nvarchar(400) '$.level',
        known           bigint        '$.known',
        missing         bigint        '$.missing',
        mean            float         '$.mean',
        deviation       float         '$.deviation',
        median          float         '$.median',
        share           float         '$.share',
        difference      float         '$.difference',
        difference_low  float         '$.difference_low',
        difference_high float         '$.difference_high'
    ) AS j;

    INSERT INTO sqlkmeans.typical_customer
        (run_id, segment_id, [rank], customer, distance)
    SELECT @run_id, j.segment_id, j.[rank], j.customer, j.distance
    FROM OPENJSON(@publication, '$.tables.typical_customer') WITH (
        segment_id int           '$.segment_id',
        [rank]     int           '$.rank',
        customer   nvarchar(max) '$.customer',
        distance   float         '$.distance'
    ) AS j;

    INSERT INTO sqlkmeans.feature_bin
        (run_id, position, bin, feature, label, upper, customers)
    SELECT @run_id, j.position, j.bin, j.feature, j.label, j.upper, j.customers
    FROM OPENJSON(@publication, '$.tables.feature_bin') WITH (
        position  int           '$.position',
        bin       int           '$.bin',
        feature   nvarchar(400) '$.feature',
        label     nvarchar(400) '$.label',
        upper     float         '$.upper',
        customers bigint        '$.customers'
    ) AS j;

    INSERT INTO sqlkmeans.feature_drift
        (run_id, position, feature, psi, mean, previous_mean, missing_share,
         previous_missing_share)
    SELECT @run_id, j.position, j.feature, j.psi, j.mean, j.previous_mean, j.missing_share,
        j.previous_missing_share
    FROM OPENJSON(@publication, '$.tables.feature_drift') WITH (
        position               int           '$.position',
        feature                nvarchar(400) '$.feature',
        psi                    float         '$.psi',
        mean                   float         '$.mean',
        previous_mean          float         '$.previous_mean',
        missing_share          float         '$.missing_share',
        previous_missing_share float         '$.previous_missing_share'
    ) AS j;

    INSERT INTO sqlkmeans.k_score
        (run_id, k, inertia, silhouette, simplified_silhouette, davies_bouldin,
         calinski_harabasz, gap, gap_error, separation, separation_error, stability,
         smallest_share, recommended)
    SELECT @run_id, j.k, j.inertia, j.silhouette, j.simplified_silhouette, j.davies_bouldin,
        j.calinski_harabasz, j.gap, j.gap_error, j.separation, j.separation_error, j.stability,
        j.smallest_share, j.recommended
    FROM OPENJSON(@publication, '$.tables.k_score') WITH (
        k                     int   '$.k',
        inertia               float '$.inertia',
        silhouette            float '$.silhouette',
        simplified_silhouette float '$.simplified_silhouette',
        davies_bouldin        float '$.davies_bouldin',
        calinski_harabasz     float '$.calinski_harabasz',
        gap                   float '$.gap',
        gap_error             float '$.gap_error',
        separation            float '$.separation',
        separation_error      float '$.separation_error',
        stability             float '$.stability',
        smallest_share        float '$.smallest_share',
        recommended           bit   '$.recommended'
    ) AS j;
END;
GO
