IF OBJECT_ID(N'sqlkmeans.train_rows', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_rows AS RETURN 0;');
GO
-- Fills the caller's #sqlkmeans_scored from its #sqlkmeans_input: each feature in its own units, [sqlkmeans o1] …, and
-- prepared, z1 …; and gives the tables that hold rows or centroids their columns z1 ….
ALTER PROCEDURE sqlkmeans.train_rows
    @run_id     bigint,
    @definition nvarchar(max),
    @features   int OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @position int = 0;
    DECLARE @column nvarchar(128);
    DECLARE @type nvarchar(16);
    DECLARE @transform nvarchar(16);
    DECLARE @f nvarchar(40);
    DECLARE @x nvarchar(10);
    DECLARE @fill nvarchar(40);
    DECLARE @center nvarchar(40);
    DECLARE @divisor nvarchar(40);
    DECLARE @own nvarchar(max) = N'';
    DECLARE @filled nvarchar(max) = N'';
    DECLARE @scaled nvarchar(max) = N'';
    DECLARE @statement nvarchar(max);

    WHILE 1 = 1
    BEGIN
        SET @column = NULL;
        SELECT TOP (1) @position = f.position, @column = f.source_column, @type = f.type,
            @transform = f.transform,
            @center = sqlkmeans.float_literal(f.center),
            @divisor = sqlkmeans.float_literal(f.scale / f.weight),
            @fill = sqlkmeans.float_literal(CASE WHEN f.fill < f.low THEN f.low
                                                 WHEN f.fill > f.high THEN f.high ELSE f.fill END)
        FROM sqlkmeans.model_feature AS f
        WHERE f.run_id = @run_id AND f.position > @position
        ORDER BY f.position;
        IF @column IS NULL
            BREAK;

        SELECT @f = N'i.[sqlkmeans f' + CAST(CAST(j.[key] AS int) + 1 AS nvarchar(10)) + N']'
        FROM OPENJSON(@definition, '$.features') AS j
        WHERE JSON_VALUE(j.[value], '$.column') = @column;
        SET @features = @position;
        SET @x = CAST(@position AS nvarchar(10));
        -- Numbers and ages are pulled in to their limits already.
        SET @own = @own + N', ' + CASE @type
            WHEN N'category' THEN sqlkmeans.own_value(@run_id, @position, @f) ELSE @f END
            + N' AS o' + @x;
        SET @filled = @filled + CASE WHEN @position > 1 THEN N', ' ELSE N'' END
            + COALESCE(N'COALESCE(o.o' + @x + N', ' + @fill + N')', N'o.o' + @x) + N' AS x' + @x;
        SET @scaled = @scaled + N', (' + sqlkmeans.transformed(N'x.x' + @x, @transform) + N' - ('
            + @center + N')) / ' + @divisor;
    END;

    -- Columns that are added to a temporary table by a nested batch stay in it.
    SET @statement = sqlkmeans.each_number(@features,
            N'ALTER TABLE #sqlkmeans_scored ADD [sqlkmeans o{}] float NULL; '
            + N'ALTER TABLE #sqlkmeans_scored ADD z{} float NULL;', N' ')
        + sqlkmeans.each_number(@features,
            N'ALTER TABLE #sqlkmeans_sample ADD z{} float NULL; ALTER TABLE #sqlkmeans_centroid ADD z{} float NULL; '
            + N'ALTER TABLE #sqlkmeans_moved ADD z{} float NULL; ALTER TABLE #sqlkmeans_best ADD z{} float NULL; '
            + N'ALTER TABLE #sqlkmeans_candidate ADD z{} float NULL;', N' ');
    EXECUTE sys.sp_executesql @statement;

    SET @statement = N'INSERT INTO #sqlkmeans_scored (row_number, weight, '
        + sqlkmeans.each_number(@features, N'[sqlkmeans o{}]', N', ') + N', '
        + sqlkmeans.each_number(@features, N'z{}', N', ') + N')
SELECT o.row_number, o.weight, ' + sqlkmeans.each_number(@features, N'o.o{}', N', ') + @scaled + N'
FROM (SELECT i.[sqlkmeans row] AS row_number, i.[sqlkmeans weight] AS weight' + @own + N' FROM #sqlkmeans_input AS i) AS o
CROSS APPLY (SELECT ' + @filled + N') AS x;';
    EXECUTE sys.sp_executesql @statement;
END;
GO
