IF OBJECT_ID(N'sqlkmeans.train_rows', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_rows AS RETURN 0;');
GO
-- Fills the caller's #sqlkmeans_prepared from its #sqlkmeans_input: each feature in its own units,
-- [sqlkmeans o1] …, and as K-Means sees it, [sqlkmeans z1] …; and gives the tables that hold rows or
-- centroids their columns.
ALTER PROCEDURE sqlkmeans.train_rows
    @run_id     bigint,
    @definition nvarchar(max),
    @features   int    OUTPUT,
    @rows       bigint OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @position int = 0;
    DECLARE @column nvarchar(128);
    DECLARE @x nvarchar(10);
    DECLARE @own nvarchar(max) = N'';
    DECLARE @filled nvarchar(max) = N'';
    DECLARE @scaled nvarchar(max) = N'';
    DECLARE @statement nvarchar(max);

    WHILE 1 = 1
    BEGIN
        SET @column = NULL;
        SELECT TOP (1) @position = f.position, @x = CAST(f.position AS nvarchar(10)),
            @column = f.source_column,
            @own = @own + N', ' + CASE f.type
                WHEN N'category' THEN sqlkmeans.own_value(@run_id, f.position, c.value)
                ELSE sqlkmeans.clipped(c.value, f.low, f.high) END
                + N' AS o' + CAST(f.position AS nvarchar(10)),
            @filled = @filled + N', ' + COALESCE(N'COALESCE(o.o{}, ' + sqlkmeans.float_literal(
                sqlkmeans.prepared_value(f.fill, f.low, f.high, N'none')) + N')', N'o.o{}') + N' AS x{}',
            @scaled = @scaled + N', (' + sqlkmeans.transformed(N'x.x{}', f.transform) + N' - ('
                + sqlkmeans.float_literal(f.center) + N')) / ' + sqlkmeans.float_literal(f.scale / f.weight)
        FROM sqlkmeans.model_feature AS f
        INNER JOIN #sqlkmeans_column AS c ON c.name = f.source_column
        WHERE f.run_id = @run_id AND f.position > @position
        ORDER BY f.position;
        IF @column IS NULL
            BREAK;
        SELECT @features = @position, @filled = REPLACE(@filled, N'{}', @x),
            @scaled = REPLACE(@scaled, N'{}', @x);
    END;

    -- Columns that are added to a temporary table by a nested batch stay in it.
    SET @statement = sqlkmeans.each_number(@features,
            N'ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans o{}] float NULL; '
            + N'ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans z{}] float NULL; '
            + N'ALTER TABLE #sqlkmeans_sample ADD [sqlkmeans o{}] float NULL; '
            + N'ALTER TABLE #sqlkmeans_sample ADD [sqlkmeans z{}] float NULL;', N' ')
        + sqlkmeans.each_number(@features,
            N'ALTER TABLE #sqlkmeans_scored ADD [sqlkmeans o{}] float NULL; '
            + N'ALTER TABLE #sqlkmeans_seed ADD [sqlkmeans z{}] float NULL; '
            + N'ALTER TABLE #sqlkmeans_start ADD [sqlkmeans z{}] float NULL; '
            + N'ALTER TABLE #sqlkmeans_candidate ADD z{} float NULL; '
            + N'ALTER TABLE #sqlkmeans_centroid ADD z{} float NULL; '
            + N'ALTER TABLE #sqlkmeans_moved ADD z{} float NULL; '
            + N'ALTER TABLE #sqlkmeans_best ADD z{} float NULL;', N' ');
    EXECUTE sys.sp_executesql @statement;
    EXECUTE sqlkmeans.store_in_columns @table = N'#sqlkmeans_prepared';
    EXECUTE sqlkmeans.store_in_columns @table = N'#sqlkmeans_scored';

    SET @statement = N'INSERT INTO #sqlkmeans_prepared WITH (TABLOCK) ([sqlkmeans row], [sqlkmeans previous], [sqlkmeans weight]'
        + sqlkmeans.each_number(@features, N', [sqlkmeans o{}]', N'')
        + sqlkmeans.each_number(@features, N', [sqlkmeans z{}]', N'') + N')
SELECT i.[sqlkmeans row], i.[sqlkmeans previous], i.[sqlkmeans weight]'
        + sqlkmeans.each_number(@features, N', o.o{}', N'') + @scaled + N'
FROM #sqlkmeans_input AS i
CROSS APPLY (SELECT ' + STUFF(@own, 1, 2, N'') + N') AS o
CROSS APPLY (SELECT ' + STUFF(@filled, 1, 2, N'') + N') AS x
WHERE 1 = 1' + CASE JSON_VALUE(@definition, '$.missing') WHEN N'skip'
            THEN (SELECT sqlkmeans.each_number(COUNT(*), N' AND i.[sqlkmeans f{}] IS NOT NULL', N'')
                  FROM #sqlkmeans_column AS c) ELSE N'' END + N';
SET @rows = ROWCOUNT_BIG();';
    EXECUTE sys.sp_executesql @statement, N'@rows bigint OUTPUT', @rows = @rows OUTPUT;
END;
GO
