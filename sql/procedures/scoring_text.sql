IF OBJECT_ID(N'sqlkmeans.scoring_text', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.scoring_text AS RETURN 0;');
GO
-- A query that scores one row with a stored model, as text: columns segment_id, segment_name,
-- distance, runner_up_distance and is_outlier. Values come from parameters named after the source's columns.
-- The arithmetic is the one that training used, in the same order; the nearest centroid is found by
-- squared distance, the lowest segment id wins a tie, and a missing value that the model does not
-- fill in makes all of them NULL.
-- With @row = 1 the values come from a row s, and the steps are apart, so that what one has found
-- can be kept: @values are the features in its own units, o1, o2 …; @scaled is what follows a row o
-- of them and makes z1, z2 … of a row z.
-- For explaining_text: @arguments are the parameters' names; @given a row of constants a feature, with
-- its position, its value in its own units and its z; @changed the columns, numbered @columns in all,
-- each as it is or as a row w, p of a changed feature has it.
-- The server writes an expression out wherever its name stands, and takes 65,535 identifiers and
-- constants in one. So centroids are rows of constants and the distance to one of them is written
-- once: no expression grows with their number.
ALTER PROCEDURE sqlkmeans.scoring_text
    @run_id     bigint,
    @row        bit,
    @parameters nvarchar(max) = NULL OUTPUT,
    @values     nvarchar(max) = NULL OUTPUT,
    @query      nvarchar(max) = NULL OUTPUT,
    @scaled     nvarchar(max) = NULL OUTPUT,
    @arguments  nvarchar(max) = NULL OUTPUT,
    @given      nvarchar(max) = NULL OUTPUT,
    @changed    nvarchar(max) = NULL OUTPUT,
    @columns    int           = NULL OUTPUT
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @filled nvarchar(max) = N'';
    DECLARE @transformed nvarchar(max) = N'';
    DECLARE @divided nvarchar(max) = N'';
    DECLARE @squared nvarchar(max) = N'';
    DECLARE @coordinates nvarchar(max) = N'';
    DECLARE @centroids nvarchar(max) = N'';
    DECLARE @centroid nvarchar(max);
    DECLARE @limit nvarchar(40);
    DECLARE @nearest nvarchar(max);
    DECLARE @value nvarchar(400);
    DECLARE @x nvarchar(40);
    DECLARE @o nvarchar(40);
    DECLARE @z nvarchar(40);
    DECLARE @position int = 0;
    DECLARE @segment_id int = 0;
    DECLARE @column nvarchar(400);
    DECLARE @first int;
    DECLARE @last int;
    DECLARE @date nvarchar(10);
    DECLARE @type nvarchar(16);
    DECLARE @transform nvarchar(16);
    DECLARE @center nvarchar(40);
    DECLARE @divisor nvarchar(40);
    DECLARE @fill nvarchar(40);
    DECLARE @name nvarchar(400);
    DECLARE @comma nvarchar(10) = N'';

    SELECT @parameters = N'', @values = N'', @arguments = N'', @given = N'', @changed = N'', @columns = 0;
    WHILE 1 = 1
    BEGIN
        SET @column = NULL;
        SELECT TOP (1) @position = f.position, @column = f.source_column, @type = f.type,
            @transform = f.transform, @date = CONVERT(nvarchar(10), f.reference_date, 112),
            @center = sqlkmeans.float_literal(f.center),
            @divisor = sqlkmeans.float_literal(f.scale / f.weight),
            @fill = sqlkmeans.float_literal(CASE WHEN f.fill < f.low THEN f.low
                                                 WHEN f.fill > f.high THEN f.high
                                                 ELSE f.fill END)
        FROM sqlkmeans.model_feature AS f
        WHERE f.run_id = @run_id AND f.position > @position
        ORDER BY f.position;
        IF @column IS NULL
            BREAK;

        SET @x = CAST(@position AS nvarchar(10));
        SELECT @first = MIN(f.position), @last = MAX(f.position)
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
            SET @arguments = @arguments + @comma + @value;
            SET @changed = @changed + @comma + N'MAX(CASE WHEN p.position BETWEEN ' + @x + N' AND '
                + CAST(@last AS nvarchar(10)) + N' THEN '
                + CASE @type WHEN N'category' THEN N'p.level'
                             WHEN N'date' THEN N'DATEADD(day, -CAST(w.new_value AS int), p.reference_date)'
                             ELSE N'w.new_value' END
                + N' ELSE ' + @value + N' END) AS v' + CAST(@columns AS nvarchar(10));
        END;
        SET @given = @given + @comma + N'(' + @x + N', ' + CASE @type
            WHEN N'category' THEN N'x.x' + @x
            WHEN N'date' THEN N'CAST(DATEDIFF(day, ' + @value + N', ''' + @date + N''') AS float)'
            ELSE @value END + N', z.z' + @x + N')';

        SET @values = @values + @comma + sqlkmeans.own_value(@run_id, @position, @value)
            + N' AS o' + @x;
        SET @o = N'o.o' + @x;
        SET @filled = @filled + @comma + COALESCE(N'COALESCE(' + @o + N', ' + @fill + N')', @o)
            + N' AS x' + @x;
        SET @transformed = @transformed + @comma
            + sqlkmeans.transformed(N'x.x' + @x, @transform) + N' AS t' + @x;
        SET @divided = @divided + @comma + N'(t.t' + @x + N' - (' + @center + N')) / ' + @divisor
            + N' AS z' + @x;
        SET @z = N'(z.z' + @x + N' - c.c' + @x + N')';
        SET @squared = @squared + CASE WHEN @squared = N'' THEN N'' ELSE N' + ' END
            + @z + N' * ' + @z;
        SET @coordinates = @coordinates + N', c' + @x;
        SET @comma = N', ';
    END;

    -- Who keeps what the steps find looks for the nearest centroid without @query.
    SET @comma = N'';
    WHILE @row = 0
    BEGIN
        SET @name = NULL;
        SELECT TOP (1) @segment_id = c.segment_id,
            @name = COALESCE(s.name, N'segment ' + CAST(c.segment_id AS nvarchar(20))),
            @limit = COALESCE(sqlkmeans.float_literal(c.outlier_distance), N'CAST(NULL AS float)')
        FROM sqlkmeans.centroid AS c
        LEFT JOIN sqlkmeans.segment AS s ON s.run_id = c.run_id AND s.segment_id = c.segment_id
        WHERE c.run_id = @run_id AND c.segment_id > @segment_id
        ORDER BY c.segment_id;
        IF @name IS NULL
            BREAK;

        SET @centroid = N'(' + CAST(@segment_id AS nvarchar(20)) + N', '
            + sqlkmeans.text_literal(@name) + N', ' + @limit + sqlkmeans.joined((
                SELECT N', ' + sqlkmeans.float_literal(c.scaled_value)
                FROM sqlkmeans.centroid AS c
                WHERE c.run_id = @run_id AND c.segment_id = @segment_id
                ORDER BY c.position
                FOR XML PATH('')), N'');
        SET @centroids = @centroids + @comma + @line + N'    ' + @centroid + N')';
        SET @comma = N', ';
    END;

    -- The distance has a name before it is aggregated: an aggregate may not mix columns of its own
    -- query with those of the row outside (error 8124).
    SET @centroids = N'FROM (VALUES ' + @centroids + N') AS c (segment_id, segment_name, outlier_distance'
        + @coordinates + N')' + @line
        + N'CROSS APPLY (SELECT ' + @squared + N' AS squared_distance) AS d' + @line;
    SET @scaled = N'CROSS APPLY (SELECT ' + @filled + N') AS x' + @line
        + N'CROSS APPLY (SELECT ' + @transformed + N') AS t' + @line
        + N'CROSS APPLY (SELECT ' + @divided + N') AS z';
    SET @nearest = N'OUTER APPLY (SELECT TOP (1) c.segment_id, c.segment_name, c.outlier_distance,'
        + @line + N'    d.squared_distance' + @line + @centroids
        + N'WHERE d.squared_distance IS NOT NULL' + @line
        + N'ORDER BY d.squared_distance, c.segment_id) AS n';
    SET @query = N'SELECT n.segment_id, n.segment_name, SQRT(n.squared_distance) AS distance,'
        + @line + N'    (SELECT SQRT(MIN(d.squared_distance))' + @line + @centroids
        + N'WHERE c.segment_id <> n.segment_id) AS runner_up_distance,' + @line
        + N'    CAST(CASE WHEN SQRT(n.squared_distance) > n.outlier_distance THEN 1' + @line
        + N'              WHEN n.segment_id IS NOT NULL THEN 0 END AS bit) AS is_outlier' + @line
        + N'FROM (SELECT ' + @values + N') AS o' + @line + @scaled + @line + @nearest;
END;
GO
