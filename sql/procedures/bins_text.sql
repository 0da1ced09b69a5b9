IF OBJECT_ID(N'sqlkmeans.bins_text', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.bins_text AS RETURN 0;');
GO
-- Makes of a row s of #sqlkmeans_scored the rows v (position, bin): in which bin of a fit the row is, for each
-- column of the source, 0 where its value is missing. NULL where the fit has no bins. The row has the
-- features of @scored_run_id, by default the fit's own: columns that both have are counted, a
-- category by its levels, wherever they stand.
ALTER PROCEDURE sqlkmeans.bins_text
    @run_id        bigint,
    @each          nvarchar(max) OUTPUT,
    @scored_run_id bigint = NULL
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @column nvarchar(400);
    DECLARE @type nvarchar(16);
    DECLARE @position int = 0;
    DECLARE @feature int;
    DECLARE @bin int;
    DECLARE @last int;
    DECLARE @o nvarchar(40);
    DECLARE @case nvarchar(max);
    DECLARE @list nvarchar(max) = N'';

    SET @scored_run_id = COALESCE(@scored_run_id, @run_id);
    CREATE TABLE #sqlkmeans_scored_column
    (
        position int           NOT NULL,
        feature  int           NOT NULL,
        name     nvarchar(128) COLLATE DATABASE_DEFAULT NOT NULL,
        type     nvarchar(16)  COLLATE DATABASE_DEFAULT NOT NULL
    );
    INSERT INTO #sqlkmeans_scored_column (position, feature, name, type)
    SELECT b.position, s.feature, s.source_column, s.type
    FROM (SELECT ROW_NUMBER() OVER (ORDER BY MIN(f.position)) AS position, f.source_column, f.type
          FROM sqlkmeans.model_feature AS f
          WHERE f.run_id = @run_id
          GROUP BY f.source_column, f.type) AS b
    INNER JOIN (SELECT MIN(f.position) AS feature, f.source_column, f.type
                FROM sqlkmeans.model_feature AS f
                WHERE f.run_id = @scored_run_id
                GROUP BY f.source_column, f.type) AS s
        ON s.source_column = b.source_column
       AND CASE s.type WHEN N'category' THEN 1 ELSE 0 END
           = CASE b.type WHEN N'category' THEN 1 ELSE 0 END;

    WHILE 1 = 1
    BEGIN
        SET @column = NULL;
        SELECT TOP (1) @position = c.position, @feature = c.feature, @column = c.name, @type = c.type
        FROM #sqlkmeans_scored_column AS c
        WHERE c.position > @position
        ORDER BY c.position;
        IF @column IS NULL
            BREAK;

        -- The last bin takes what is above all others; of a category, the levels without a bin.
        SELECT @last = COALESCE(MAX(CASE WHEN b.label = N'(other)' AND @type = N'category'
                                         THEN b.bin END), MAX(b.bin))
        FROM sqlkmeans.feature_bin AS b
        WHERE b.run_id = @run_id AND b.position = @position AND b.feature = @column;
        IF @last IS NULL
            CONTINUE;

        SET @o = N's.[sqlkmeans o' + CAST(@feature AS nvarchar(10)) + N']';
        SET @case = N'CASE WHEN ' + @o + N' IS NULL THEN 0';
        SET @bin = 0;
        WHILE @type <> N'category' AND @bin IS NOT NULL
        BEGIN
            SELECT @bin = MIN(b.bin)
            FROM sqlkmeans.feature_bin AS b
            WHERE b.run_id = @run_id AND b.position = @position AND b.bin > @bin
              AND b.upper IS NOT NULL;
            SELECT @case = @case + N' WHEN ' + @o + N' <= '
                + LTRIM(RTRIM(CONVERT(nvarchar(40), b.upper, 3))) + N' THEN '
                + CAST(@bin AS nvarchar(10))
            FROM sqlkmeans.feature_bin AS b
            WHERE b.run_id = @run_id AND b.position = @position AND b.bin = @bin;
        END;
        WHILE @type = N'category' AND @feature IS NOT NULL
        BEGIN
            SELECT @case = @case + N' WHEN s.[sqlkmeans o' + CAST(@feature AS nvarchar(10))
                + N'] = 1e0 THEN ' + CAST(b.bin AS nvarchar(10))
            FROM sqlkmeans.model_feature AS f
            INNER JOIN sqlkmeans.feature_bin AS b
                ON b.run_id = @run_id AND b.position = @position AND b.bin > 0
               AND (b.label + N'.') COLLATE Latin1_General_100_BIN2 = f.level + N'.'
            WHERE f.run_id = @scored_run_id AND f.position = @feature;
            SELECT @feature = MIN(f.position)
            FROM sqlkmeans.model_feature AS f
            WHERE f.run_id = @scored_run_id AND f.source_column = @column AND f.position > @feature;
        END;

        SET @list = @list + CASE WHEN @list = N'' THEN N'' ELSE N', ' END + N'('
            + CAST(@position AS nvarchar(10)) + N', ' + @case + N' ELSE '
            + CAST(@last AS nvarchar(10)) + N' END)';
    END;

    SET @each = CASE WHEN @list <> N'' THEN N'CROSS APPLY (VALUES ' + @list
        + N') AS v (position, bin)' END;
END;
GO
