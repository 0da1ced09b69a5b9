IF OBJECT_ID(N'sqlkmeans.train_compare', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_compare AS RETURN 0;');
GO
-- Compares a run with the model that is published: fills the caller's #sqlkmeans_drift, and says in @warnings,
-- a line each, what is beyond a threshold of the guard. Raises these where the guard refuses.
ALTER PROCEDURE sqlkmeans.train_compare
    @run_id     bigint,
    @active     bigint,
    @definition nvarchar(max),
    @rows       bigint,
    @warnings   nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @run nvarchar(20) = CAST(@active AS nvarchar(20));
    DECLARE @allowed_moved float =
        COALESCE(TRY_CAST(JSON_VALUE(@definition, '$.guard.moved') AS float),
            sqlkmeans.shared_number(N'guard.moved'));
    DECLARE @allowed_shift float =
        COALESCE(TRY_CAST(JSON_VALUE(@definition, '$.guard.centroid_shift') AS float),
            sqlkmeans.shared_number(N'guard.centroid_shift'));
    DECLARE @min_frequency float = sqlkmeans.shared_number(N'min_frequency');
    DECLARE @max_categories int = sqlkmeans.shared_number(N'max_categories');
    DECLARE @then nvarchar(max);
    DECLARE @k int;
    DECLARE @changed nvarchar(max);
    DECLARE @differing bit;
    DECLARE @stayed float;
    DECLARE @moved float;

    -- With other features or another k, customers have to move. What a definition says counts, not
    -- the levels that a category has, nor their order.
    SELECT @then = r.definition, @k = r.k FROM sqlkmeans.run AS r WHERE r.run_id = @active;
    SET @changed = CASE WHEN EXISTS (
            SELECT 1
            FROM (VALUES (@definition), (@then)) AS d (definition)
            CROSS APPLY OPENJSON(d.definition, '$.features') AS j
            GROUP BY j.[key], (JSON_VALUE(j.[value], '$.column') + N'.') COLLATE Latin1_General_100_BIN2,
                COALESCE(JSON_VALUE(j.[value], '$.type'), N'number'),
                COALESCE(JSON_VALUE(j.[value], '$.transform'), N'none'),
                COALESCE(CAST(JSON_VALUE(j.[value], '$.weight') AS float), 1),
                CAST(JSON_VALUE(j.[value], '$.winsorize[0]') AS float),
                CAST(JSON_VALUE(j.[value], '$.winsorize[1]') AS float),
                COALESCE(CAST(JSON_VALUE(j.[value], '$.min_frequency') AS float), @min_frequency),
                COALESCE(CAST(JSON_VALUE(j.[value], '$.max_categories') AS int), @max_categories)
            HAVING COUNT(*) <> 2) THEN N' and features' ELSE N'' END
        + sqlkmeans.joined((
            SELECT N' and ' + v.name
            FROM (VALUES (@definition), (@then)) AS d (definition)
            CROSS APPLY (VALUES
                (1, N'scaling', JSON_VALUE(d.definition, '$.scaling')),
                (2, N'missing', JSON_VALUE(d.definition, '$.missing')),
                (3, N'winsorize', sqlkmeans.float_literal(CAST(JSON_VALUE(d.definition, '$.winsorize[0]') AS float))
                    + sqlkmeans.float_literal(CAST(JSON_VALUE(d.definition, '$.winsorize[1]') AS float))),
                (4, N'sample_weight', JSON_VALUE(d.definition, '$.sample_weight') + N'.')
            ) AS v (place, name, value)
            GROUP BY v.place, v.name
            HAVING COUNT(v.value) = 1 OR COUNT(DISTINCT v.value COLLATE Latin1_General_100_BIN2) = 2
            ORDER BY v.place
            FOR XML PATH('')), N'')
        + CASE WHEN @k <> (SELECT COUNT(*) FROM #sqlkmeans_cluster AS c) THEN N' and k' ELSE N'' END;
    SELECT @warnings = N'', @differing = CASE @changed WHEN N'' THEN 0 ELSE 1 END;
    IF @differing = 0
    BEGIN
        SELECT @stayed = SUM(CASE WHEN o.previous = c.segment_id THEN o.customers ELSE 0 END),
            @moved = SUM(CASE WHEN o.previous <> c.segment_id THEN o.customers ELSE 0 END)
        FROM #sqlkmeans_overlap AS o
        INNER JOIN #sqlkmeans_cluster AS c ON c.cluster = o.cluster
        WHERE o.previous > 0;
        IF @moved / NULLIF(@moved + @stayed, 0) > @allowed_moved
            SET @warnings = N'moved: ' + CAST(CAST(@moved AS bigint) AS nvarchar(20)) + N' of '
                + CAST(CAST(@moved + @stayed AS bigint) AS nvarchar(20))
                + N' customers changed segment (allowed ' + CAST(@allowed_moved AS nvarchar(40))
                + N')' + @line;
        SET @warnings = @warnings + sqlkmeans.joined((
            SELECT N'segment ' + CAST(c.segment_id AS nvarchar(10)) + N': its centroid moved by '
                + sqlkmeans.number_text(ROUND(c.centroid_shift, 2)) + N' since run ' + @run + N' (allowed '
                + CAST(@allowed_shift AS nvarchar(40)) + N', in the scaled space)' + @line
            FROM #sqlkmeans_cluster AS c
            WHERE c.centroid_shift > @allowed_shift
            ORDER BY c.segment_id
            FOR XML PATH('')), N'');
    END;

    EXECUTE sqlkmeans.count_bins @run_id = @active, @scored_run_id = @run_id;
    UPDATE b
    SET customers = b.customers + k.skipped
    FROM #sqlkmeans_bin AS b
    INNER JOIN sqlkmeans.feature_bin AS f
        ON f.run_id = @active AND f.position = b.position AND f.bin = b.bin
    INNER JOIN #sqlkmeans_column AS k ON k.name = f.feature
    WHERE b.bin = 0;
    EXECUTE sqlkmeans.watch_labels
        @model_run_id = @active, @definition = @definition, @rows = @rows,
        @warnings = @warnings OUTPUT, @scored_run_id = @run_id, @differing = @differing;
    IF @differing = 1
        SET @warnings = @warnings + STUFF(@changed, 1, 5, N'') + N' changed since run ' + @run
            + N': moved customers, centroids and distances are not compared with it' + @line;
END;
GO
