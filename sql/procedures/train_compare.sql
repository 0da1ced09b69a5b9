IF OBJECT_ID(N'sqlkmeans.train_compare', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_compare AS RETURN 0;');
GO
-- Compares a run with the model that is published: fills the caller's #sqlkmeans_drift, and says in @warnings,
-- a line each, what is beyond a threshold of the guard. Raises these where the guard refuses.
ALTER PROCEDURE sqlkmeans.train_compare
    @run_id        bigint,
    @active        bigint,
    @definition    nvarchar(max),
    @rows          bigint,
    @mean_distance float,
    @warnings      nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @run nvarchar(20) = CAST(@active AS nvarchar(20));
    DECLARE @allowed_moved float =
        COALESCE(TRY_CAST(JSON_VALUE(@definition, '$.guard.moved') AS float), 0.5);
    DECLARE @allowed_shift float =
        COALESCE(TRY_CAST(JSON_VALUE(@definition, '$.guard.centroid_shift') AS float), 1);
    DECLARE @notes nvarchar(max) = N'';
    DECLARE @each nvarchar(max);
    DECLARE @statement nvarchar(max);
    DECLARE @segment_id int = 0;
    DECLARE @shift float;
    DECLARE @stayed float;
    DECLARE @moved float;

    SET @warnings = N'';
    -- With other features or another k, customers have to move.
    IF EXISTS (
        SELECT 1
        FROM (SELECT f.position, f.feature, f.transform, f.weight FROM sqlkmeans.model_feature AS f
              WHERE f.run_id = @run_id) AS n
        FULL JOIN (SELECT f.position, f.feature, f.transform, f.weight
                   FROM sqlkmeans.model_feature AS f WHERE f.run_id = @active) AS o
            ON o.position = n.position AND o.feature = n.feature AND o.transform = n.transform
           AND o.weight = n.weight
        WHERE n.position IS NULL OR o.position IS NULL)
       OR EXISTS (
        SELECT 1 FROM sqlkmeans.run AS r
        WHERE r.run_id = @active
          AND (r.k <> (SELECT COUNT(*) FROM #sqlkmeans_cluster AS c)
               OR JSON_VALUE(r.definition, '$.scaling') <> JSON_VALUE(@definition, '$.scaling')
               OR JSON_VALUE(r.definition, '$.missing') <> JSON_VALUE(@definition, '$.missing')
               OR COALESCE(JSON_VALUE(r.definition, '$.sample_weight'), N'null')
                   <> COALESCE(JSON_VALUE(@definition, '$.sample_weight'), N'null')))
    BEGIN
        SET @mean_distance = NULL;
        SET @notes = N'features, k, scaling, missing or sample_weight changed since run ' + @run
            + N': moved customers, centroids and distances are not compared with it' + @line;
    END;
    ELSE
    BEGIN
        SELECT @stayed = SUM(CASE WHEN i.previous_segment_id = c.segment_id THEN 1 ELSE 0 END),
            @moved = SUM(CASE WHEN i.previous_segment_id <> c.segment_id THEN 1 ELSE 0 END)
        FROM #sqlkmeans_input AS i
        INNER JOIN #sqlkmeans_label AS l ON l.row_number = i.row_number
        INNER JOIN #sqlkmeans_cluster AS c ON c.cluster = l.cluster
        WHERE i.previous_segment_id > 0;
        IF @moved / NULLIF(@moved + @stayed, 0) > @allowed_moved
            SET @warnings = N'moved: ' + CAST(CAST(@moved AS bigint) AS nvarchar(20)) + N' of '
                + CAST(CAST(@moved + @stayed AS bigint) AS nvarchar(20))
                + N' customers changed segment (allowed ' + CAST(@allowed_moved AS nvarchar(40))
                + N')' + @line;
        WHILE 1 = 1
        BEGIN
            SET @shift = NULL;
            SELECT TOP (1) @segment_id = c.segment_id, @shift = c.centroid_shift
            FROM #sqlkmeans_cluster AS c
            WHERE c.segment_id > @segment_id AND c.centroid_shift > @allowed_shift
            ORDER BY c.segment_id;
            IF @shift IS NULL
                BREAK;
            SET @warnings = @warnings + N'segment ' + CAST(@segment_id AS nvarchar(10))
                + N': its centroid moved by ' + CAST(CAST(@shift AS decimal(9, 2)) AS nvarchar(20))
                + N' since run ' + @run + N' (allowed ' + CAST(@allowed_shift AS nvarchar(40))
                + N', in the scaled space)' + @line;
        END;
    END;

    -- Bins are of columns; they compare where the features stand in the same places.
    IF NOT EXISTS (
        SELECT 1
        FROM (SELECT f.position, f.feature, f.type FROM sqlkmeans.model_feature AS f
              WHERE f.run_id = @run_id) AS n
        FULL JOIN (SELECT f.position, f.feature, f.type FROM sqlkmeans.model_feature AS f
                   WHERE f.run_id = @active) AS o
            ON o.position = n.position AND o.feature = n.feature AND o.type = n.type
        WHERE n.position IS NULL OR o.position IS NULL)
    BEGIN
        EXECUTE sqlkmeans.bins_text @run_id = @active, @each = @each OUTPUT;
        IF @each IS NOT NULL
        BEGIN
            SET @statement = N'INSERT INTO #sqlkmeans_bin (position, bin, customers)
SELECT v.position, v.bin, COUNT_BIG(*) FROM #sqlkmeans_scored AS s
' + @each + N'
GROUP BY v.position, v.bin;';
            EXECUTE sys.sp_executesql @statement;
            INSERT INTO #sqlkmeans_bin (position, bin, customers)
            SELECT b.position, -1, k.customers
            FROM sqlkmeans.feature_bin AS b
            INNER JOIN #sqlkmeans_skipped AS k ON k.name = b.feature
            WHERE b.run_id = @active AND b.bin = 0 AND k.customers > 0
              AND EXISTS (SELECT 1 FROM #sqlkmeans_bin AS o WHERE o.position = b.position);
            UPDATE b
            SET customers = b.customers + k.customers
            FROM #sqlkmeans_bin AS b
            INNER JOIN #sqlkmeans_bin AS k ON k.position = b.position AND k.bin = -1
            WHERE b.bin = 0;
            DELETE b
            FROM #sqlkmeans_bin AS b
            WHERE b.bin = -1
              AND EXISTS (SELECT 1 FROM #sqlkmeans_bin AS o WHERE o.position = b.position AND o.bin = 0);
            UPDATE #sqlkmeans_bin SET bin = 0 WHERE bin = -1;
        END;
    END;
    EXECUTE sqlkmeans.watch_labels
        @model_run_id = @active, @definition = @definition, @rows = @rows,
        @mean_distance = @mean_distance, @warnings = @warnings OUTPUT;
    SET @warnings = @warnings + @notes;
END;
GO
