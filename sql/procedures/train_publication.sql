IF OBJECT_ID(N'sqlkmeans.train_publication', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_publication AS RETURN 0;');
GO
-- What a run that trained in T-SQL publishes, from the tables of train_segmentation: scores,
-- warnings, segments and profiles as JSON; the centroids go to their table.
ALTER PROCEDURE sqlkmeans.train_publication
    @run_id          bigint,
    @definition      nvarchar(max),
    @active          bigint,
    @last_segment_id int,
    @rows            bigint,
    @total           bigint,
    @total_ss        float,
    @n_iter          int,
    @begun           datetime2(6),
    @fitted          datetime2(6),
    @publication     nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @k int;
    DECLARE @within_ss float;
    DECLARE @inertia float;
    DECLARE @weight float;
    DECLARE @mean_distance float;
    DECLARE @davies_bouldin float;
    DECLARE @warnings nvarchar(max) = N'';
    DECLARE @members nvarchar(max);
    DECLARE @compared nvarchar(max);
    DECLARE @segment_id int = 0;

    SELECT @k = COUNT(*), @within_ss = SUM(c.within_ss), @inertia = SUM(c.inertia),
        @weight = SUM(c.weight), @mean_distance = SUM(c.size * c.distance) / @rows,
        @last_segment_id = CASE WHEN MAX(c.segment_id) > @last_segment_id THEN MAX(c.segment_id)
                                ELSE @last_segment_id END
    FROM #sqlkmeans_cluster AS c;

    INSERT INTO sqlkmeans.centroid
        (run_id, segment_id, position, feature, value, scaled_value, outlier_distance)
    SELECT @run_id, c.segment_id, f.position, f.feature, p.value, p.scaled_value, c.outlier_distance
    FROM #sqlkmeans_cluster AS c
    INNER JOIN #sqlkmeans_point AS p ON p.cluster = c.cluster
    INNER JOIN sqlkmeans.model_feature AS f ON f.run_id = @run_id AND f.position = p.position;

    -- Davies and Bouldin (1979) from mean distances; none where two centroids are the same.
    SELECT @davies_bouldin = CASE WHEN MIN(g.apart) > 0 THEN SUM(g.worst) / @k END
    FROM (SELECT a.cluster, MIN(d.squared) AS apart,
              MAX((a.distance + b.distance) / NULLIF(SQRT(d.squared), 0)) AS worst
          FROM (SELECT x.cluster AS one, y.cluster AS other,
                    SUM((x.scaled_value - y.scaled_value) * (x.scaled_value - y.scaled_value))
                        AS squared
                FROM #sqlkmeans_point AS x
                INNER JOIN #sqlkmeans_point AS y ON y.position = x.position AND y.cluster <> x.cluster
                GROUP BY x.cluster, y.cluster) AS d
          INNER JOIN #sqlkmeans_cluster AS a ON a.cluster = d.one
          INNER JOIN #sqlkmeans_cluster AS b ON b.cluster = d.other
          GROUP BY a.cluster) AS g;

    IF @total > @rows
        SET @warnings = CAST(@total - @rows AS nvarchar(20)) + N' rows were skipped because a feature is missing' + NCHAR(10);
    WHILE @segment_id IS NOT NULL
    BEGIN
        SELECT @segment_id = MIN(c.segment_id)
        FROM #sqlkmeans_cluster AS c
        WHERE c.segment_id > @segment_id AND c.size = 1;
        SET @warnings = @warnings + COALESCE(N'segment ' + CAST(@segment_id AS nvarchar(10))
            + N' is one customer: look for wrong values, or try transform = "log1p" or '
            + N'scaling = "robust"' + NCHAR(10), N'');
    END;
    IF @active IS NOT NULL
        EXECUTE sqlkmeans.train_compare
            @run_id = @run_id, @active = @active, @definition = @definition, @rows = @rows,
            @mean_distance = @mean_distance, @warnings = @compared OUTPUT;
    SET @warnings = @warnings + COALESCE(@compared, N'');
    EXECUTE sqlkmeans.profile_json @model_run_id = @run_id, @rows = @rows, @members = @members OUTPUT;

    SET @publication = N'{"model_run_id":'
        + CAST(@run_id AS nvarchar(20))
        + N',"last_segment_id":' + CAST(@last_segment_id AS nvarchar(10))
        + N',"distance_tolerance":' + sqlkmeans.float_literal(
            sqlkmeans.shared_number(N'distance_tolerance') * SQRT(@inertia / @weight))
        + N',"run":{"k":' + CAST(@k AS nvarchar(10))
        + N',"rows":' + CAST(@rows AS nvarchar(20))
        + N',"skipped":' + CAST(@total - @rows AS nvarchar(20))
        + N',"inertia":' + sqlkmeans.float_literal(@inertia)
        + N',"n_iter":' + CAST(@n_iter AS nvarchar(10))
        + N',"mean_distance":' + sqlkmeans.float_literal(@mean_distance)
        + COALESCE(N',"davies_bouldin":' + sqlkmeans.float_literal(@davies_bouldin), N'')
        + COALESCE(N',"calinski_harabasz":' + sqlkmeans.float_literal(
            CASE WHEN @rows > @k THEN (@total_ss - @within_ss) / (@k - 1)
                / NULLIF(@within_ss / (@rows - @k), 0) END), N'')
        + COALESCE(N',"compared_run_id":' + CAST(@active AS nvarchar(20)), N'')
        + COALESCE(N',"psi":' + (SELECT sqlkmeans.float_literal(MAX(d.psi)) FROM #sqlkmeans_drift AS d), N'')
        + COALESCE(N',"centroid_shift":' + (
            SELECT sqlkmeans.float_literal(MAX(c.centroid_shift)) FROM #sqlkmeans_cluster AS c), N'')
        + COALESCE(N',"outliers":' + (
            SELECT CAST(SUM(c.outliers) AS nvarchar(20)) FROM #sqlkmeans_cluster AS c), N'')
        + N',"seconds_fit":'
        + CAST(DATEDIFF(millisecond, @begun, @fitted) / 1000.0 AS nvarchar(40))
        + N',"seconds_assign":'
        + CAST(DATEDIFF(millisecond, @fitted, SYSUTCDATETIME()) / 1000.0 AS nvarchar(40))
        + N',"warnings":' + sqlkmeans.json_lines(@warnings) + N'},"tables":{"segment":' + (
            SELECT n.segment_id, n.name, n.name_source, n.description,
                COALESCE(c.size, @rows) AS size,
                COALESCE(c.size, @rows) / CAST(@rows AS float) AS share,
                COALESCE(c.within_ss, @within_ss) AS within_ss, c.centroid_shift,
                COALESCE(c.outliers, o.outliers) AS outliers
            FROM #sqlkmeans_named AS n
            LEFT JOIN #sqlkmeans_cluster AS c ON c.segment_id = n.segment_id
            LEFT JOIN (SELECT SUM(a.outliers) AS outliers FROM #sqlkmeans_cluster AS a) AS o
                ON n.segment_id = 0
            ORDER BY n.segment_id
            FOR JSON PATH
        ) + N',' + @members + N'}}';
END;
GO
