IF OBJECT_ID(N'sqlkmeans.stage_changes', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.stage_changes AS RETURN 0;');
GO
-- Stages changes of the segment table alone, under the segment ids. @labels is a query of key,
-- segment_id and distance, and of what stands in that table: segment, distance and whether that is an
-- outlier's, [sqlkmeans previous], [sqlkmeans before] and [sqlkmeans flagged]; by default of the caller's
-- #sqlkmeans_scored. @kept of its rows stand there, and who is there beside these departed. Tells the
-- publication so.
ALTER PROCEDURE sqlkmeans.stage_changes
    @run_id      bigint,
    @definition  nvarchar(max),
    @publication nvarchar(max) OUTPUT,
    @labels      nvarchar(max) = NULL,
    @kept        bigint        = NULL
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @key nvarchar(max) = JSON_QUERY(@definition, '$.key');
    DECLARE @target nvarchar(1000) =
        sqlkmeans.quoted_name(JSON_VALUE(@definition, '$.target'), N'');
    DECLARE @keys nvarchar(max) = sqlkmeans.each_name(@key, N'{}', N', ');
    DECLARE @staging nvarchar(200) =
        N'sqlkmeans.' + QUOTENAME(N'staging_' + CAST(@run_id AS nvarchar(20)));
    DECLARE @tolerance float = CAST(JSON_VALUE(@publication, '$.distance_tolerance') AS float);
    DECLARE @last_segment_id int = CAST(JSON_VALUE(@publication, '$.last_segment_id') AS int);
    DECLARE @target_id bigint;
    DECLARE @published bigint = 0;
    DECLARE @staged bigint;
    DECLARE @departed bigint = 0;
    DECLARE @statement nvarchar(max);

    IF @labels IS NULL
    BEGIN
        SET @labels = sqlkmeans.labels_text(@key);
        SELECT @kept = COALESCE(SUM(o.customers), 0)
        FROM #sqlkmeans_overlap AS o
        WHERE o.previous IS NOT NULL;
    END;
    SET @statement = N'INSERT INTO ' + @staging + N' WITH (TABLOCK) (' + @keys
        + N', cluster, distance)
SELECT ' + sqlkmeans.each_name(@key, N's.{}', N', ') + N', s.segment_id, s.distance
FROM (' + @labels + N') AS s
LEFT JOIN #sqlkmeans_limit AS o ON o.segment_id = s.segment_id
CROSS APPLY (SELECT CASE WHEN s.distance > o.outlier_distance THEN 1 ELSE 0 END AS is_outlier) AS f
WHERE s.[sqlkmeans previous] IS NULL OR s.[sqlkmeans previous] <> s.segment_id
   OR ABS(s.distance - s.[sqlkmeans before]) > @tolerance OR f.is_outlier <> s.[sqlkmeans flagged]
   OR f.is_outlier <> CASE WHEN s.[sqlkmeans before] > o.outlier_distance THEN 1 ELSE 0 END;
SET @staged = ROWCOUNT_BIG();';

    CREATE TABLE #sqlkmeans_limit
    (
        segment_id       int   NOT NULL PRIMARY KEY,
        outlier_distance float NOT NULL
    );
    INSERT INTO #sqlkmeans_limit (segment_id, outlier_distance)
    SELECT o.segment_id, o.outlier_distance FROM sqlkmeans.outlier_distances(@publication) AS o;

    EXECUTE sys.sp_executesql @statement, N'@tolerance float, @staged bigint OUTPUT',
        @tolerance = @tolerance, @staged = @staged OUTPUT;

    EXECUTE sqlkmeans.as_owner
        @statement = N'SET @arrived = OBJECT_ID(@text);', @text = @target,
        @arrived = @target_id OUTPUT;
    IF @target_id IS NOT NULL
    BEGIN
        SET @statement = N'SELECT @published = COUNT_BIG(*) FROM ' + @target + N' AS t;';
        EXECUTE sys.sp_executesql @statement, N'@published bigint OUTPUT', @published = @published OUTPUT;
    END;
    IF @published <> @kept
    BEGIN
        SET @statement = N'INSERT INTO ' + @staging + N' (' + @keys + N', cluster, distance, departed)
SELECT ' + sqlkmeans.each_name(@key, N't.{}', N', ') + N', 0, 0e0, 1
FROM ' + @target + N' AS t
WHERE NOT EXISTS (SELECT 1 FROM (' + @labels + N') AS s WHERE '
            + sqlkmeans.each_name(@key, N's.{} = t.{}', N' AND ') + N');
SET @departed = ROWCOUNT_BIG();';
        EXECUTE sys.sp_executesql @statement, N'@departed bigint OUTPUT', @departed = @departed OUTPUT;
    END;

    SET @publication = JSON_MODIFY(JSON_MODIFY(JSON_MODIFY(@publication,
        '$.segment_ids', JSON_QUERY(sqlkmeans.own_ids(@last_segment_id))),
        '$.changes_only', CAST(1 AS bit)), '$.staged_rows', @staged + @departed);
END;
GO
