IF OBJECT_ID(N'sqlkmeans.publication_json', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.publication_json AS RETURN 0;');
GO
-- What a run publishes that labels @rows of @total rows with the model of @model_run_id, from the
-- caller's tables: #sqlkmeans_cluster, #sqlkmeans_named, #sqlkmeans_profile, #sqlkmeans_drift, and
-- #sqlkmeans_bin where the model is an earlier run's. Labels were looked for @since then. @more are the
-- further members of the run, a comma before each.
ALTER PROCEDURE sqlkmeans.publication_json
    @run_id       bigint,
    @model_run_id bigint,
    @rows         bigint,
    @total        bigint,
    @since        datetime2(6),
    @more         nvarchar(max),
    @warnings     nvarchar(max),
    @publication  nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @active bigint;
    DECLARE @last_segment_id int;
    DECLARE @k int;
    DECLARE @within_ss float;
    DECLARE @inertia float;
    DECLARE @tolerance float;
    DECLARE @mean_distance float;
    DECLARE @outliers bigint;
    DECLARE @numbers nvarchar(max);

    SELECT @active = g.active_run_id, @last_segment_id = g.last_segment_id
    FROM sqlkmeans.run AS r
    INNER JOIN sqlkmeans.segmentation AS g ON g.name = r.segmentation
    WHERE r.run_id = @run_id;
    -- With the same model, whatever changed is written.
    SELECT @k = COUNT(*), @within_ss = SUM(c.within_ss), @inertia = SUM(c.inertia),
        @mean_distance = SUM(c.size * c.distance) / @rows, @outliers = SUM(c.outliers),
        @last_segment_id = CASE WHEN MAX(c.segment_id) > @last_segment_id THEN MAX(c.segment_id)
                                ELSE @last_segment_id END,
        @tolerance = CASE WHEN @model_run_id = @run_id THEN SQRT(SUM(c.inertia) / SUM(c.weight)) ELSE 0e0 END
            * sqlkmeans.shared_number(N'distance_tolerance'),
        @numbers = COALESCE(N',"outliers":' + CAST(SUM(c.outliers) AS nvarchar(20)), N'')
            + COALESCE(N',"centroid_shift":' + sqlkmeans.float_literal(MAX(c.centroid_shift)), N'')
    FROM #sqlkmeans_cluster AS c;
    SELECT @numbers = @numbers + COALESCE(N',"psi":' + sqlkmeans.float_literal(MAX(d.psi)), N'')
    FROM #sqlkmeans_drift AS d;
    SET @warnings = CASE WHEN @total > @rows THEN CAST(@total - @rows AS nvarchar(20))
        + N' rows were skipped because a feature is missing' + NCHAR(10) ELSE N'' END + @warnings;

    SET @publication = N'{"model_run_id":' + CAST(@model_run_id AS nvarchar(20))
        + N',"last_segment_id":' + CAST(@last_segment_id AS nvarchar(10))
        + N',"distance_tolerance":' + sqlkmeans.float_literal(@tolerance)
        + N',"run":{"k":' + CAST(@k AS nvarchar(10))
        + N',"rows":' + CAST(@rows AS nvarchar(20))
        + N',"skipped":' + CAST(@total - @rows AS nvarchar(20))
        + N',"inertia":' + sqlkmeans.float_literal(@inertia)
        + N',"mean_distance":' + sqlkmeans.float_literal(@mean_distance)
        + COALESCE(N',"compared_run_id":' + CAST(@active AS nvarchar(20)), N'') + @numbers
        + N',"seconds_assign":'
        + CAST(DATEDIFF(millisecond, @since, SYSUTCDATETIME()) / 1000.0 AS nvarchar(40)) + @more
        + N',"warnings":' + sqlkmeans.json_lines(@warnings) + N'},"tables":{"segment":' + (
            SELECT n.segment_id, n.name, n.name_source, n.description,
                COALESCE(c.size, @rows) AS size,
                COALESCE(c.size, @rows) / CAST(@rows AS float) AS share,
                COALESCE(c.within_ss, @within_ss) AS within_ss, c.centroid_shift,
                CASE n.segment_id WHEN 0 THEN @outliers ELSE c.outliers END AS outliers
            FROM #sqlkmeans_named AS n
            LEFT JOIN #sqlkmeans_cluster AS c ON c.segment_id = n.segment_id
            ORDER BY n.segment_id
            FOR JSON PATH
        ) + N',"segment_feature":' + (
            SELECT COALESCE(c.segment_id, 0) AS segment_id, p.position, f.feature, p.mean, p.deviation,
                p.lowest AS [min], p.median, p.highest AS [max], COALESCE(c.size, @rows) - p.known AS missing,
                p.importance
            FROM #sqlkmeans_profile AS p
            LEFT JOIN #sqlkmeans_cluster AS c ON c.cluster = p.cluster
            INNER JOIN sqlkmeans.model_feature AS f ON f.run_id = @model_run_id AND f.position = p.position
            FOR JSON PATH
        ) + COALESCE(N',"feature_drift":' + (
            SELECT d.position, d.feature, d.psi, d.mean, d.previous_mean, d.missing_share,
                d.previous_missing_share
            FROM #sqlkmeans_drift AS d
            FOR JSON PATH
        ), N'') + COALESCE(N',"feature_bin":' + (
            SELECT b.position, b.bin, b.feature, b.label, b.upper,
                COALESCE(n.customers, 0) AS customers
            FROM sqlkmeans.feature_bin AS b
            LEFT JOIN #sqlkmeans_bin AS n ON n.position = b.position AND n.bin = b.bin
            WHERE b.run_id = @model_run_id AND @model_run_id <> @run_id
            FOR JSON PATH
        ), N'') + N'}}';
END;
GO
