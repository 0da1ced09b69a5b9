IF OBJECT_ID(N'sqlkmeans.assign_rows', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.assign_rows AS RETURN 0;');
GO
-- Reads the rows of a run's source, gives each the nearest segment of the published model, and describes
-- them, in the tables of label_rows; gives the publication.
ALTER PROCEDURE sqlkmeans.assign_rows
    @run_id      bigint,
    @medians     bit,
    @total       bigint        OUTPUT,
    @publication nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @segmentation nvarchar(128);
    DECLARE @definition nvarchar(max);
    DECLARE @relation nvarchar(max);
    DECLARE @key nvarchar(max);
    DECLARE @unique bit;
    DECLARE @missing nvarchar(16);
    DECLARE @active bigint;
    DECLARE @k int;
    DECLARE @features int;
    DECLARE @given nvarchar(max);
    DECLARE @target nvarchar(1000);
    DECLARE @target_id bigint;
    DECLARE @rows bigint;
    DECLARE @near bigint;
    DECLARE @warnings nvarchar(max);
    DECLARE @problems nvarchar(max);
    DECLARE @begun datetime2(6) = SYSUTCDATETIME();

    SELECT @segmentation = r.segmentation, @definition = r.definition, @active = g.active_run_id,
        @key = JSON_QUERY(r.definition, '$.key'), @missing = JSON_VALUE(m.definition, '$.missing')
    FROM sqlkmeans.run AS r
    INNER JOIN sqlkmeans.segmentation AS g ON g.name = r.segmentation
    INNER JOIN sqlkmeans.run AS m ON m.run_id = g.active_run_id
    WHERE r.run_id = @run_id;
    SELECT @relation = sqlkmeans.relation(j.source), @unique = sqlkmeans.has_unique_key(j.source, @key)
    FROM OPENJSON(@definition) WITH (source nvarchar(max) '$.source') AS j;
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
    SET @k = ROWCOUNT_BIG();
    INSERT INTO #sqlkmeans_named (segment_id, name, name_source, description)
    SELECT s.segment_id, s.name, s.name_source, s.description
    FROM sqlkmeans.segment AS s
    WHERE s.run_id = @active;

    -- Reads the source once, as the caller, so that labels and profile are of the same moment.
    SET @target = sqlkmeans.quoted_name(JSON_VALUE(@definition, '$.target'), N'');
    EXECUTE sqlkmeans.as_owner
        @statement = N'SET @arrived = OBJECT_ID(@text);', @text = @target,
        @arrived = @target_id OUTPUT;
    SET @given = sqlkmeans.each_name(@key, N's.{}', N', ') + CASE WHEN @target_id IS NULL
        THEN N', NULL, NULL, NULL, NULL, 1e0' ELSE N', NULL, p.segment_id, p.distance, p.is_outlier, 1e0' END;
    IF @target_id IS NOT NULL
        SET @relation = @relation + N'
LEFT JOIN ' + @target + N' AS p ON ' + sqlkmeans.each_name(@key, N'p.{} = s.{}', N' AND ');
    EXECUTE sqlkmeans.prepare_rows
        @run_id = @run_id, @model_run_id = @active, @key = @key, @features = @features,
        @relation = @relation, @given = @given, @rows = @total OUTPUT;
    IF COALESCE(@unique, 0) = 0
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
    EXECUTE sqlkmeans.mark_outliers;
    EXECUTE sqlkmeans.count_bins @run_id = @active, @scored_run_id = @active;

    EXECUTE sqlkmeans.watch_labels
        @model_run_id = @active, @definition = @definition, @rows = @rows, @warnings = @warnings OUTPUT;
    IF @warnings <> N''
        SET @warnings = N'a refit is due: ' + REPLACE(LEFT(@warnings, LEN(@warnings) - 1), NCHAR(10),
            NCHAR(10) + N'a refit is due: ') + NCHAR(10);
    IF TRY_CAST(JSON_VALUE(@definition, '$.outlier') AS float) IS NOT NULL
       AND NOT EXISTS (SELECT 1 FROM #sqlkmeans_cluster AS c WHERE c.outliers IS NOT NULL)
        SET @warnings = N'the model of run ' + CAST(@active AS nvarchar(20))
            + N' has no limits, so nobody is an outlier until the next run finds them' + NCHAR(10)
            + @warnings;
    EXECUTE sqlkmeans.publication_json
        @run_id = @run_id, @model_run_id = @active, @rows = @rows, @total = @total, @since = @begun,
        @more = N'', @warnings = @warnings, @publication = @publication OUTPUT;
END;
GO
