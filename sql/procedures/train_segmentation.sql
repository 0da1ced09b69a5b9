IF OBJECT_ID(N'sqlkmeans.train_segmentation', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_segmentation AS RETURN 0;');
GO
-- Trains on the rows of the caller's #sqlkmeans_input in T-SQL alone, labels and describes them in the
-- tables of label_rows, and gives the publication. What the run has learnt stands in model_feature,
-- centroid and feature_bin before it is published; a run that fails forgets it.
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
    DECLARE @key nvarchar(max);
    DECLARE @k int;
    DECLARE @features int;
    DECLARE @weighing bigint;
    DECLARE @relation nvarchar(max);
    DECLARE @given nvarchar(max);
    DECLARE @rows bigint;
    DECLARE @threshold float;
    DECLARE @n_iter int;
    DECLARE @total_ss float;
    DECLARE @share float;
    DECLARE @warnings nvarchar(max);
    DECLARE @more nvarchar(max);
    DECLARE @begun datetime2(6) = SYSUTCDATETIME();
    DECLARE @fitted datetime2(6);

    SELECT @segmentation = r.segmentation, @definition = r.definition, @active = g.active_run_id,
        @last_segment_id = g.last_segment_id,
        @key = JSON_QUERY(r.definition, '$.key'), @k = CAST(JSON_VALUE(r.definition, '$.k') AS int),
        @share = TRY_CAST(JSON_VALUE(r.definition, '$.outlier') AS float)
    FROM sqlkmeans.run AS r
    INNER JOIN sqlkmeans.segmentation AS g ON g.name = r.segmentation
    WHERE r.run_id = @run_id;

    CREATE TABLE #sqlkmeans_column
    (
        number     int            NOT NULL PRIMARY KEY,
        x          nvarchar(10)   COLLATE DATABASE_DEFAULT NOT NULL,
        name       nvarchar(128)  COLLATE DATABASE_DEFAULT NOT NULL,
        type       nvarchar(16)   COLLATE DATABASE_DEFAULT NOT NULL,
        feature    nvarchar(max)  COLLATE DATABASE_DEFAULT NOT NULL,
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

    EXECUTE sqlkmeans.train_columns
        @run_id = @run_id, @definition = @definition, @reference_date = @begun,
        @features = @features OUTPUT, @fitted = @weighing OUTPUT;
    SELECT @relation = N'#sqlkmeans_input AS i
CROSS APPLY (SELECT ' + sqlkmeans.joined((
            SELECT N', ' + REPLACE(CASE c.type
                    WHEN N'date' THEN N'DATEADD(day, CAST(i.[sqlkmeans f{}] AS int), CAST(''19700101'' AS date)) AS '
                    ELSE N'i.[sqlkmeans f{}] AS ' END, N'{}', c.x) + QUOTENAME(c.name)
            FROM #sqlkmeans_column AS c
            ORDER BY c.number
            FOR XML PATH('')), N', ') + CASE JSON_VALUE(@definition, '$.missing') WHEN N'skip' THEN N' WHERE '
            + sqlkmeans.each_number(
                (SELECT COUNT(*) FROM #sqlkmeans_column AS c), N'i.[sqlkmeans f{}] IS NOT NULL', N' AND ')
            ELSE N'' END + N') AS s',
        @given = sqlkmeans.each_name(@key, N'i.{}', N', ') + N', i.[sqlkmeans row], i.[sqlkmeans previous], '
            + N'i.[sqlkmeans before], i.[sqlkmeans flagged], i.[sqlkmeans weight]';
    EXECUTE sqlkmeans.prepare_rows
        @run_id = @run_id, @model_run_id = @run_id, @key = @key, @features = @features,
        @relation = @relation, @given = @given, @rows = @rows OUTPUT;
    -- Nobody has to read them again.
    TRUNCATE TABLE #sqlkmeans_input;
    EXECUTE sqlkmeans.train_seed
        @run_id = @run_id, @definition = @definition, @k = @k, @features = @features,
        @weighing = @weighing, @threshold = @threshold OUTPUT, @n_iter = @n_iter OUTPUT;
    EXECUTE sqlkmeans.train_passes
        @run_id = @run_id, @k = @k, @features = @features, @threshold = @threshold,
        @n_iter = @n_iter OUTPUT;
    SET @fitted = SYSUTCDATETIME();
    EXECUTE sqlkmeans.train_bins @run_id = @run_id;
    EXECUTE sqlkmeans.train_labels
        @run_id = @run_id, @active = @active, @last_segment_id = @last_segment_id,
        @definition = @definition, @k = @k, @features = @features, @total_ss = @total_ss OUTPUT;
    EXECUTE sqlkmeans.mark_outliers @share = @share;
    INSERT INTO sqlkmeans.centroid
        (run_id, segment_id, position, feature, value, scaled_value, outlier_distance)
    SELECT @run_id, c.segment_id, f.position, f.feature, p.value, p.scaled_value, c.outlier_distance
    FROM #sqlkmeans_cluster AS c
    INNER JOIN #sqlkmeans_point AS p ON p.cluster = c.cluster
    INNER JOIN sqlkmeans.model_feature AS f ON f.run_id = @run_id AND f.position = p.position;
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

    IF @active IS NOT NULL
        EXECUTE sqlkmeans.train_compare
            @run_id = @run_id, @active = @active, @definition = @definition, @rows = @rows,
            @warnings = @warnings OUTPUT;
    SET @warnings = sqlkmeans.joined((
        SELECT N'segment ' + CAST(c.segment_id AS nvarchar(10)) + N' is one customer: look for wrong values, '
            + N'or try transform = "log1p" or scaling = "robust"' + NCHAR(10)
        FROM #sqlkmeans_cluster AS c
        WHERE c.size = 1
        ORDER BY c.segment_id
        FOR XML PATH('')), N'') + COALESCE(@warnings, N'');
    -- Davies and Bouldin (1979) from mean distances; none where two centroids are the same. Calinski
    -- and Harabasz (1974).
    SELECT @more = N',"n_iter":' + CAST(@n_iter AS nvarchar(10))
        + COALESCE(N',"davies_bouldin":' + sqlkmeans.float_literal(
            CASE WHEN MIN(g.apart) > 0 THEN SUM(g.worst) / @k END), N'')
        + COALESCE(N',"calinski_harabasz":' + sqlkmeans.float_literal(
            CASE WHEN @rows > @k THEN (@total_ss - SUM(g.within_ss)) / (@k - 1)
                / NULLIF(SUM(g.within_ss) / (@rows - @k), 0) END), N'')
        + N',"seconds_fit":' + CAST(DATEDIFF(millisecond, @begun, @fitted) / 1000.0 AS nvarchar(40))
    FROM (SELECT MAX(a.within_ss) AS within_ss, MIN(d.squared) AS apart,
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
    EXECUTE sqlkmeans.publication_json
        @run_id = @run_id, @model_run_id = @run_id, @rows = @rows, @total = @total, @since = @fitted,
        @more = @more, @warnings = @warnings, @publication = @publication OUTPUT;
END;
GO
