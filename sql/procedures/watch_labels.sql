IF OBJECT_ID(N'sqlkmeans.watch_labels', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.watch_labels AS RETURN 0;');
GO
-- Compares labels with the run that fitted a model, from the caller's tables #sqlkmeans_bin,
-- #sqlkmeans_cluster and #sqlkmeans_profile (of the features of @scored_run_id, by default the model's
-- own): fills its table #sqlkmeans_drift, and says in @warnings, a line each, what is beyond a threshold of
-- the guard. Raises these where the guard refuses. Distances are not compared where @differing = 1: the
-- definition changed what they are.
ALTER PROCEDURE sqlkmeans.watch_labels
    @model_run_id  bigint,
    @definition    nvarchar(max),
    @rows          bigint,
    @warnings      nvarchar(max) OUTPUT,
    @scored_run_id bigint = NULL,
    @differing     bit    = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @run nvarchar(20) = CAST(@model_run_id AS nvarchar(20));
    DECLARE @allowed_rows float =
        COALESCE(TRY_CAST(JSON_VALUE(@definition, '$.guard.rows') AS float),
            sqlkmeans.shared_number(N'guard.rows'));
    DECLARE @allowed_psi float =
        COALESCE(TRY_CAST(JSON_VALUE(@definition, '$.guard.psi') AS float),
            sqlkmeans.shared_number(N'guard.psi'));
    DECLARE @allowed_distance float =
        COALESCE(TRY_CAST(JSON_VALUE(@definition, '$.guard.distance') AS float),
            sqlkmeans.shared_number(N'guard.distance'));
    DECLARE @allowed_outliers float =
        COALESCE(TRY_CAST(JSON_VALUE(@definition, '$.guard.outliers') AS float),
            sqlkmeans.shared_number(N'guard.outliers'));
    DECLARE @mean_distance float;
    DECLARE @outliers float;
    DECLARE @outliers_then float;
    DECLARE @least float = sqlkmeans.shared_number(N'least_share');
    DECLARE @rows_then bigint;
    DECLARE @distance_then float;
    DECLARE @position int = 0;
    DECLARE @psi float;

    -- The caller may have found some already.
    SET @warnings = COALESCE(@warnings, N'');
    IF @differing = 0
        SELECT @outliers = SUM(c.outliers) / CAST(@rows AS float), @mean_distance = SUM(c.size * c.distance) / @rows
        FROM #sqlkmeans_cluster AS c;
    -- Another share is another limit.
    SELECT @rows_then = r.[rows], @distance_then = r.mean_distance,
        @outliers_then = CASE
            WHEN TRY_CAST(JSON_VALUE(r.definition, '$.outlier') AS float)
                 = TRY_CAST(JSON_VALUE(@definition, '$.outlier') AS float)
            THEN r.outliers / NULLIF(CAST(r.[rows] AS float), 0) END
    FROM sqlkmeans.run AS r
    WHERE r.run_id = @model_run_id;

    -- Shares of each bin then and now; what is below @least counts as that, because a logarithm of
    -- 0 is none. The index is Siddiqi's (Credit Risk Scorecards, 2006).
    CREATE TABLE #sqlkmeans_share
    (
        position int   NOT NULL,
        bin      int   NOT NULL,
        earlier  float NOT NULL,
        present  float NOT NULL
    );
    INSERT INTO #sqlkmeans_share (position, bin, earlier, present)
    SELECT b.position, b.bin, b.customers / NULLIF(CAST(t.customers AS float), 0),
        COALESCE(n.customers, 0) / NULLIF(CAST(o.customers AS float), 0)
    FROM sqlkmeans.feature_bin AS b
    INNER JOIN (SELECT f.position, SUM(f.customers) AS customers
                FROM sqlkmeans.feature_bin AS f
                WHERE f.run_id = @model_run_id
                GROUP BY f.position) AS t
        ON t.position = b.position
    INNER JOIN (SELECT c.position, SUM(c.customers) AS customers FROM #sqlkmeans_bin AS c GROUP BY c.position)
        AS o ON o.position = b.position
    LEFT JOIN #sqlkmeans_bin AS n ON n.position = b.position AND n.bin = b.bin
    WHERE b.run_id = @model_run_id AND t.customers > 0;

    INSERT INTO #sqlkmeans_drift (position, feature, psi, missing_share, previous_missing_share)
    SELECT h.position, MIN(b.feature), SUM((p.present - p.earlier) * LOG(p.present / p.earlier)),
        SUM(CASE WHEN h.bin = 0 THEN h.present ELSE 0e0 END),
        SUM(CASE WHEN h.bin = 0 THEN h.earlier ELSE 0e0 END)
    FROM #sqlkmeans_share AS h
    CROSS APPLY (SELECT CASE WHEN h.earlier < @least THEN @least ELSE h.earlier END AS earlier,
                        CASE WHEN h.present < @least THEN @least ELSE h.present END AS present) AS p
    INNER JOIN sqlkmeans.feature_bin AS b
        ON b.run_id = @model_run_id AND b.position = h.position AND b.bin = h.bin
    GROUP BY h.position;

    -- A category has no mean of its own.
    UPDATE d
    SET mean = p.mean, previous_mean = e.mean
    FROM #sqlkmeans_drift AS d
    INNER JOIN sqlkmeans.model_feature AS f
        ON f.run_id = @model_run_id AND f.source_column = d.feature AND f.type <> N'category'
    INNER JOIN sqlkmeans.model_feature AS s
        ON s.run_id = COALESCE(@scored_run_id, @model_run_id) AND s.source_column = f.source_column
       AND s.type <> N'category'
    INNER JOIN #sqlkmeans_profile AS p ON p.cluster = 0 AND p.position = s.position
    LEFT JOIN sqlkmeans.segment_feature AS e
        ON e.run_id = @model_run_id AND e.segment_id = 0 AND e.position = f.position;

    IF ABS(@rows / NULLIF(CAST(@rows_then AS float), 0) - 1) > @allowed_rows
        SET @warnings = @warnings + N'customers: ' + CAST(@rows AS nvarchar(20)) + N', and '
            + CAST(@rows_then AS nvarchar(20)) + N' in run ' + @run + N' (allowed change '
            + CAST(@allowed_rows AS nvarchar(40)) + N')' + @line;

    WHILE 1 = 1
    BEGIN
        SET @psi = NULL;
        SELECT TOP (1) @position = d.position, @psi = d.psi
        FROM #sqlkmeans_drift AS d
        WHERE d.position > @position
        ORDER BY d.position;
        IF @psi IS NULL
            BREAK;
        IF @psi > @allowed_psi
            SELECT TOP (1) @warnings = @warnings + b.feature + N': drifted since run ' + @run
                + N' (PSI ' + sqlkmeans.number_text(ROUND(@psi, 2)) + N', allowed '
                + CAST(@allowed_psi AS nvarchar(40)) + N'): '
                + sqlkmeans.number_text(ROUND(100 * h.present, 0)) + N'% are ' + b.label
                + N', and ' + sqlkmeans.number_text(ROUND(100 * h.earlier, 0))
                + N'% were' + @line
            FROM #sqlkmeans_share AS h
            INNER JOIN sqlkmeans.feature_bin AS b
                ON b.run_id = @model_run_id AND b.position = h.position AND b.bin = h.bin
            WHERE h.position = @position
            ORDER BY ABS(h.present - h.earlier) DESC, h.bin;
    END;

    IF @mean_distance > @distance_then * (1 + @allowed_distance)
        SET @warnings = @warnings + N'distance: ' + CAST(@mean_distance AS nvarchar(40))
            + N' to the centroid on average, was ' + CAST(@distance_then AS nvarchar(40))
            + N' in run ' + @run + N' (allowed growth ' + CAST(@allowed_distance AS nvarchar(40))
            + N')' + @line;

    IF @outliers - @outliers_then > @allowed_outliers
        SET @warnings = @warnings + N'outliers: ' + sqlkmeans.number_text(ROUND(100 * @outliers, 1))
            + N'% of the customers, and ' + sqlkmeans.number_text(ROUND(100 * @outliers_then, 1))
            + N'% in run ' + @run + N' (allowed rise '
            + sqlkmeans.number_text(ROUND(100 * @allowed_outliers, 1)) + N'%)' + @line;

    IF @warnings <> N'' AND JSON_VALUE(@definition, '$.guard.action') = N'refuse'
    BEGIN
        SET @warnings = @warnings + N'nothing was published, because guard.action is "refuse"; '
            + N'correct the source, or define a higher threshold or "warn" (docs/operate.md)';
        EXECUTE sqlkmeans.raise_problems @number = 50003, @problems = @warnings;
    END;
END;
GO
