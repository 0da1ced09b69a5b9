IF OBJECT_ID(N'sqlkmeans.scoring_text', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.scoring_text AS RETURN 0;');
GO
-- A query that scores one row with a stored model, as text: columns segment_id, segment_name,
-- distance and runner_up_distance. Values come from parameters named after the source's columns.
-- With @row = 1 they come from the row s: @values are the features in its own units, o1, o2 …, and
-- the query reads them from a row o. The arithmetic is the one that training used, in the same
-- order; the nearest centroid is found by squared distance, the lowest segment id wins a tie, and
-- a missing value that the model does not fill in makes all of them NULL.
ALTER PROCEDURE sqlkmeans.scoring_text
    @run_id     bigint,
    @row        bit,
    @parameters nvarchar(max) OUTPUT,
    @values     nvarchar(max) OUTPUT,
    @query      nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @filled nvarchar(max) = N'';
    DECLARE @transformed nvarchar(max) = N'';
    DECLARE @scaled nvarchar(max) = N'';
    DECLARE @distances nvarchar(max) = N'';
    DECLARE @nearest nvarchar(max) = N'';
    DECLARE @others nvarchar(max) = N'';
    DECLARE @ids nvarchar(max) = N'';
    DECLARE @names nvarchar(max) = N'';
    DECLARE @sum nvarchar(max);
    DECLARE @value nvarchar(400);
    DECLARE @own nvarchar(max);
    DECLARE @x nvarchar(40);
    DECLARE @z nvarchar(40);
    DECLARE @position int = 0;
    DECLARE @segment_id int = 0;
    DECLARE @id nvarchar(20);
    DECLARE @k int;
    DECLARE @column nvarchar(400);
    DECLARE @columns int = 0;
    DECLARE @first int;
    DECLARE @type nvarchar(16);
    DECLARE @transform nvarchar(16);
    DECLARE @center nvarchar(40);
    DECLARE @divisor nvarchar(40);
    DECLARE @fill nvarchar(40);
    DECLARE @name nvarchar(400);
    DECLARE @comma nvarchar(10) = N'';
    DECLARE @least nvarchar(100) = N'LEAST(';
    DECLARE @least_end nvarchar(100) = N')';
    DECLARE @item nvarchar(2) = N'';
    DECLARE @item_end nvarchar(2) = N'';

    SELECT @k = COUNT(DISTINCT c.segment_id) FROM sqlkmeans.centroid AS c WHERE c.run_id = @run_id;

    -- LEAST is there from SQL Server 2022 and in Azure, and takes 254 values.
    IF @k > 254
       OR (COALESCE(TRY_CAST(SERVERPROPERTY('ProductMajorVersion') AS int), 0) < 16
           AND COALESCE(TRY_CAST(SERVERPROPERTY('EngineEdition') AS int), 0) NOT IN (5, 8))
    BEGIN
        SET @least = N'(SELECT MIN(v.value) FROM (VALUES ';
        SET @least_end = N') AS v (value))';
        SET @item = N'(';
        SET @item_end = N')';
    END;

    SET @parameters = N'';
    SET @values = N'';
    WHILE 1 = 1
    BEGIN
        SET @column = NULL;
        SELECT TOP (1) @position = f.position, @column = f.source_column, @type = f.type,
            @transform = f.transform,
            @center = LTRIM(RTRIM(CONVERT(nvarchar(40), f.center, 3))),
            @divisor = LTRIM(RTRIM(CONVERT(nvarchar(40), f.scale / f.weight, 3))),
            @fill = LTRIM(RTRIM(CONVERT(nvarchar(40), CASE WHEN f.fill < f.low THEN f.low
                                                           WHEN f.fill > f.high THEN f.high
                                                           ELSE f.fill END, 3)))
        FROM sqlkmeans.model_feature AS f
        WHERE f.run_id = @run_id AND f.position > @position
        ORDER BY f.position;
        IF @column IS NULL
            BREAK;

        SET @x = CAST(@position AS nvarchar(10));
        SELECT @first = MIN(f.position)
        FROM sqlkmeans.model_feature AS f
        WHERE f.run_id = @run_id AND f.source_column = @column;
        IF @first = @position
        BEGIN
            SET @columns = @columns + 1;
            -- A column that is no plain word, differs from an earlier one in case only, or looks
            -- like such a parameter itself, becomes a parameter by its position.
            SET @value = CASE
                WHEN @row = 1 THEN N'CAST(s.' + QUOTENAME(@column) + N' AS '
                    + CASE @type WHEN N'category' THEN N'nvarchar(4000)' WHEN N'date' THEN N'date'
                                 ELSE N'float' END + N')'
                WHEN sqlkmeans.is_plain_name(@column) = 0
                     OR LOWER(@column) LIKE N'feature[_]%'
                     OR EXISTS (SELECT 1 FROM sqlkmeans.model_feature AS f
                                WHERE f.run_id = @run_id AND f.position < @position
                                  AND LOWER(f.source_column) = LOWER(@column))
                    THEN N'@feature_' + CAST(@columns AS nvarchar(10))
                ELSE N'@' + @column
            END;
            SET @parameters = @parameters + @comma + @value + CASE @type
                WHEN N'category' THEN N' nvarchar(4000)' WHEN N'date' THEN N' date' ELSE N' float' END;
        END;

        SET @own = sqlkmeans.own_value(@run_id, @position, @value);
        SET @values = @values + @comma + @own + N' AS o' + @x;
        IF @row = 1
            SET @own = N'o.o' + @x;
        SET @filled = @filled + @comma + COALESCE(N'COALESCE(' + @own + N', ' + @fill + N')', @own)
            + N' AS x' + @x;
        SET @transformed = @transformed + @comma
            + sqlkmeans.transformed(N'x.x' + @x, @transform) + N' AS t' + @x;
        SET @scaled = @scaled + @comma + N'(t.t' + @x + N' - (' + @center + N')) / ' + @divisor
            + N' AS z' + @x;
        SET @comma = N', ';
    END;

    SET @comma = N'';
    WHILE 1 = 1
    BEGIN
        SET @name = NULL;
        SELECT TOP (1) @segment_id = c.segment_id,
            @name = COALESCE(s.name, N'segment ' + CAST(c.segment_id AS nvarchar(20)))
        FROM sqlkmeans.centroid AS c
        LEFT JOIN sqlkmeans.segment AS s ON s.run_id = c.run_id AND s.segment_id = c.segment_id
        WHERE c.run_id = @run_id AND c.segment_id > @segment_id
        ORDER BY c.segment_id;
        IF @name IS NULL
            BREAK;

        SET @id = CAST(@segment_id AS nvarchar(20));
        SET @sum = N'';
        SET @position = 0;
        WHILE 1 = 1
        BEGIN
            SET @center = NULL;
            SELECT TOP (1) @position = c.position,
                @center = LTRIM(RTRIM(CONVERT(nvarchar(40), c.scaled_value, 3)))
            FROM sqlkmeans.centroid AS c
            WHERE c.run_id = @run_id AND c.segment_id = @segment_id AND c.position > @position
            ORDER BY c.position;
            IF @center IS NULL
                BREAK;
            SET @z = N'(z.z' + CAST(@position AS nvarchar(10)) + N' - (' + @center + N'))';
            SET @sum = @sum + CASE WHEN @sum = N'' THEN N'' ELSE N' + ' END + @z + N' * ' + @z;
        END;

        SET @distances = @distances + @comma + @line + N'    ' + @sum + N' AS d' + @id;
        SET @nearest = @nearest + @comma + @item + N'd.d' + @id + @item_end;
        SET @others = @others + @comma + @item + N'CASE WHEN b.segment_id <> ' + @id
            + N' THEN d.d' + @id + N' END' + @item_end;
        SET @ids = @ids + N' WHEN d.d' + @id + N' THEN ' + @id;
        SET @names = @names + N' WHEN ' + @id + N' THEN ' + sqlkmeans.text_literal(@name);
        SET @comma = N', ';
    END;

    SET @query = N'SELECT b.segment_id, CASE b.segment_id' + @names + N' END AS segment_name,' + @line
        + N'    SQRT(n.squared_distance) AS distance,' + @line
        + N'    SQRT(' + @least + @others + @least_end + N') AS runner_up_distance' + @line
        + N'FROM (SELECT ' + @filled + N') AS x' + @line
        + N'CROSS APPLY (SELECT ' + @transformed + N') AS t' + @line
        + N'CROSS APPLY (SELECT ' + @scaled + N') AS z' + @line
        + N'CROSS APPLY (SELECT ' + @distances + N') AS d' + @line
        + N'CROSS APPLY (SELECT ' + @least + @nearest + @least_end + N' AS squared_distance) AS n' + @line
        + N'CROSS APPLY (SELECT CASE n.squared_distance' + @ids + N' END AS segment_id) AS b';
END;
GO
