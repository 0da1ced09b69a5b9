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
        client = COALESCE(j.client, r.client),
        warnings = COALESCE(j.warning_list, j.warnings, r.warnings)
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
        client            nvarchar(400) '$.client',
        warning_list      nvarchar(max) '$.warnings' AS JSON,
        warnings          nvarchar(max) '$.warnings'
    ) AS j
    WHERE r.run_id = @run_id;

    INSERT INTO sqlkmeans.model_feature
        (run_id, position, feature, transform, weight, center, scale, fill)
    SELECT @run_id, j.position, j.feature, j.transform, j.weight, j.center, j.scale, j.fill
    FROM OPENJSON(@publication, '$.tables.model_feature') WITH (
        position  int           '$.position',
        feature   nvarchar(128) '$.feature',
        transform nvarchar(16)  '$.transform',
        weight    float         '$.weight',
        center    float         '$.center',
        scale     float         '$.scale',
        fill      float         '$.fill'
    ) AS j;

    INSERT INTO sqlkmeans.centroid (run_id, segment_id, position, feature, value, scaled_value)
    SELECT @run_id, j.segment_id, j.position, j.feature, j.value, j.scaled_value
    FROM OPENJSON(@publication, '$.tables.centroid') WITH (
        segment_id   int           '$.segment_id',
        position     int           '$.position',
        feature      nvarchar(128) '$.feature',
        value        float         '$.value',
        scaled_value float         '$.scaled_value'
    ) AS j;

    INSERT INTO sqlkmeans.segment
        (run_id, segment_id, name, name_source, description, size, share, within_ss)
    SELECT @run_id, j.segment_id, j.name, j.name_source, j.description, j.size, j.share, j.within_ss
    FROM OPENJSON(@publication, '$.tables.segment') WITH (
        segment_id  int           '$.segment_id',
        name        nvarchar(400) '$.name',
        name_source nvarchar(16)  '$.name_source',
        description nvarchar(max) '$.description',
        size        bigint        '$.size',
        share       float         '$.share',
        within_ss   float         '$.within_ss'
    ) AS j;

    INSERT INTO sqlkmeans.segment_feature
        (run_id, segment_id, position, feature, mean, deviation, [min], median, [max], missing,
         importance)
    SELECT @run_id, j.segment_id, j.position, j.feature, j.mean, j.deviation, j.[min], j.median,
        j.[max], j.missing, j.importance
    FROM OPENJSON(@publication, '$.tables.segment_feature') WITH (
        segment_id int           '$.segment_id',
        position   int           '$.position',
        feature    nvarchar(128) '$.feature',
        mean       float         '$.mean',
        deviation  float         '$.deviation',
        [min]      float         '$.min',
        median     float         '$.median',
        [max]      float         '$.max',
        missing    bigint        '$.missing',
        importance float         '$.importance'
    ) AS j;
END;
GO
