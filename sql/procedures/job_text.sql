IF OBJECT_ID(N'sqlkmeans.job_text', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.job_text AS RETURN 0;');
GO
-- What Python is told of a run beside its rows, as JSON: the definition, and what is published now.
ALTER PROCEDURE sqlkmeans.job_text
    @run_id         bigint,
    @reference_date date,
    @job            nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @segmentation nvarchar(128);
    DECLARE @definition nvarchar(max);
    DECLARE @active bigint;
    DECLARE @last_segment_id int;
    DECLARE @compared bigint;
    DECLARE @compared_definition nvarchar(max);

    SELECT @segmentation = r.segmentation, @definition = r.definition, @active = g.active_run_id,
        @last_segment_id = g.last_segment_id
    FROM sqlkmeans.run AS r
    INNER JOIN sqlkmeans.segmentation AS g ON g.name = r.segmentation
    WHERE r.run_id = @run_id;

    SELECT TOP (1) @compared = COALESCE(r.restored_run_id, r.run_id)
    FROM sqlkmeans.run AS r
    WHERE r.segmentation = @segmentation AND r.status = N'published'
    ORDER BY r.run_id DESC;
    SELECT @compared_definition = r.definition FROM sqlkmeans.run AS r WHERE r.run_id = @compared;

    SET @job = N'{"run_id":' + CAST(@run_id AS nvarchar(20))
        + N',"last_segment_id":' + CAST(COALESCE(@last_segment_id, 0) AS nvarchar(10))
        + N',"reference_date":"' + CONVERT(nvarchar(10), @reference_date, 23)
        + N'","definition":' + @definition
        + N',"model_feature":' + COALESCE((
            SELECT f.position, f.feature, f.transform, f.weight, f.center, f.scale, f.fill,
                f.source_column, f.type, f.level, f.low, f.high, f.reference_date
            FROM sqlkmeans.model_feature AS f
            WHERE f.run_id = @active
            ORDER BY f.position
            FOR JSON PATH, INCLUDE_NULL_VALUES), N'[]')
        + N',"centroid":' + COALESCE((
            SELECT c.segment_id, c.position, c.scaled_value
            FROM sqlkmeans.centroid AS c
            WHERE c.run_id = @active
            FOR JSON PATH), N'[]')
        + N',"segment":' + COALESCE((
            SELECT s.segment_id, s.name
            FROM sqlkmeans.segment AS s
            WHERE s.run_id = @active AND s.segment_id > 0
            FOR JSON PATH), N'[]')
        + N',"given":' + COALESCE((
            SELECT s.segment_id, MAX(s.name) AS name
            FROM sqlkmeans.segment AS s
            INNER JOIN sqlkmeans.run AS r ON r.run_id = s.run_id
            WHERE r.segmentation = @segmentation AND s.name_source = N'given'
            GROUP BY s.segment_id
            FOR JSON PATH), N'[]')
        -- The run whose labels are published now, to compare with. Its definition is JSON,
        -- which not every server nests as such.
        + COALESCE(N',"compared_run":{"definition":' + @compared_definition + N',' + STUFF((
            SELECT r.run_id, r.[rows], r.k, r.silhouette, r.mean_distance, r.outliers
            FROM sqlkmeans.run AS r
            WHERE r.run_id = @compared
            FOR JSON PATH, WITHOUT_ARRAY_WRAPPER), 1, 1, N''), N'')
        + N',"feature_bin":' + COALESCE((
            SELECT b.position, b.bin, b.feature, b.label, b.upper, b.customers
            FROM sqlkmeans.feature_bin AS b
            WHERE b.run_id = @compared
            FOR JSON PATH), N'[]')
        + N',"segment_feature":' + COALESCE((
            SELECT e.feature, e.mean
            FROM sqlkmeans.segment_feature AS e
            WHERE e.run_id = @compared AND e.segment_id = 0
            FOR JSON PATH), N'[]')
        + N'}';
END;
GO
