IF OBJECT_ID(N'sqlkmeans.train_quantiles', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_quantiles AS RETURN 0;');
GO
-- Gives a number of the caller's #sqlkmeans_column its fill value, its limits, and its centre and scale
-- as far as they need no sum; or its problem. Whatever it takes of quantiles comes from one sort of
-- the column: filling in, pulling in and a logarithm change values, and not their order.
-- A quantile lies between two neighbours (type 7 of Hyndman & Fan, 1996). With weights, it is the mean
-- over a window of the cumulated weight that is as wide as one of the effective number of rows
-- (Akinshin, 2023). PERCENTILE_CONT is not on every server.
ALTER PROCEDURE sqlkmeans.train_quantiles
    @number   int,
    @whole    nvarchar(max),
    @scaling  nvarchar(16),
    @missing  nvarchar(16),
    @weighted bit,
    @fitted   bigint,
    @weight   float,
    @squares  float
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @rows nvarchar(max);
    DECLARE @statement nvarchar(max);
    DECLARE @transform nvarchar(16);
    DECLARE @known bigint;
    DECLARE @fill float;
    DECLARE @low float;
    DECLARE @high float;
    DECLARE @least float;
    DECLARE @floors bigint;
    DECLARE @lacking bigint;
    DECLARE @lacking_weight float;
    DECLARE @known_weight float;
    DECLARE @known_squares float;
    DECLARE @filled bit = 0;
    DECLARE @problem nvarchar(max);

    -- Two looks: the first at what is known, whose quantiles fill in and pull in; the second at what
    -- K-Means will see.
    CREATE TABLE #sqlkmeans_quantile
    (
        name   nvarchar(10) COLLATE DATABASE_DEFAULT NOT NULL,
        share  float        NOT NULL,
        filled bit          NOT NULL,
        value  float        NULL
    );
    CREATE TABLE #sqlkmeans_place (place bigint NOT NULL);
    CREATE TABLE #sqlkmeans_ranked (place bigint NOT NULL, value float NOT NULL);
    CREATE TABLE #sqlkmeans_sorted (value float NOT NULL, weight float NOT NULL, upto float NOT NULL);

    SELECT @transform = c.transform, @known = c.known, @least = c.least, @floors = c.floors,
        @fill = CASE @missing WHEN N'mean' THEN c.mean END,
        @lacking = CASE WHEN @missing IN (N'mean', N'median') THEN @fitted - c.known ELSE 0 END,
        @rows = N'SELECT ' + c.value + N' AS value, i.[sqlkmeans weight] AS weight, i.[sqlkmeans row] AS row_number
      FROM #sqlkmeans_input AS i
      WHERE i.[sqlkmeans weight] > 0e0 AND ' + c.value + N' IS NOT NULL' + @whole
    FROM #sqlkmeans_column AS c
    WHERE c.number = @number;
    INSERT INTO #sqlkmeans_quantile (name, share, filled)
    SELECT q.name, q.share, q.filled
    FROM #sqlkmeans_column AS c
    CROSS APPLY (VALUES (N'fill', CASE @missing WHEN N'median' THEN 0.5e0 END, 0),
        (N'low', c.low_share, 0), (N'high', c.high_share, 0),
        (N'first', CASE @scaling WHEN N'robust' THEN 0.25e0 END, 1),
        (N'middle', CASE @scaling WHEN N'robust' THEN 0.5e0 END, 1),
        (N'last', CASE @scaling WHEN N'robust' THEN 0.75e0 END, 1)) AS q (name, share, filled)
    WHERE c.number = @number AND q.share IS NOT NULL;

    IF @weighted = 1 AND EXISTS (SELECT 1 FROM #sqlkmeans_quantile AS q)
    BEGIN
        SET @statement = N'INSERT INTO #sqlkmeans_sorted (value, weight, upto)
SELECT x.value, x.weight, SUM(x.weight) OVER (ORDER BY x.value, x.row_number ROWS UNBOUNDED PRECEDING)
FROM (' + @rows + N') AS x;';
        EXECUTE sys.sp_executesql @statement;
        SELECT @known_weight = SUM(s.weight), @known_squares = SUM(t.w * t.w)
        FROM #sqlkmeans_sorted AS s
        CROSS APPLY (SELECT s.weight AS w) AS t;
        SET @lacking_weight = CASE WHEN @lacking > 0 THEN @weight - @known_weight ELSE 0e0 END;
    END;
    IF @weighted = 0 AND EXISTS (SELECT 1 FROM #sqlkmeans_quantile AS q)
    BEGIN
        -- Among all, the value of a place is one of the known: at it, or before as many as are filled in.
        INSERT INTO #sqlkmeans_place (place)
        SELECT DISTINCT p.place
        FROM #sqlkmeans_quantile AS q
        CROSS APPLY (SELECT q.share * (@known + CASE q.filled WHEN 1 THEN @lacking ELSE 0 END - 1) AS middle)
            AS m
        CROSS APPLY (VALUES (FLOOR(m.middle) + 1), (CEILING(m.middle) + 1),
            (FLOOR(m.middle) + 1 - @lacking), (CEILING(m.middle) + 1 - @lacking)) AS p (place)
        WHERE p.place BETWEEN 1 AND @known;
        SET @statement = N'INSERT INTO #sqlkmeans_ranked (place, value)
SELECT p.place, p.value
FROM (SELECT x.value, ROW_NUMBER() OVER (ORDER BY x.value) AS place
      FROM (' + @rows + N') AS x) AS p
INNER JOIN #sqlkmeans_place AS w ON w.place = p.place;';
        EXECUTE sys.sp_executesql @statement;
    END;

    WHILE 1 = 1
    BEGIN
        -- Pulled in and transformed the second time only, when the limits are known.
        IF @weighted = 0 AND EXISTS (SELECT 1 FROM #sqlkmeans_quantile AS q WHERE q.filled = @filled)
            UPDATE q
            SET value = t.before + (t.behind - t.before) * (m.middle - FLOOR(m.middle))
            FROM #sqlkmeans_quantile AS q
            CROSS APPLY (SELECT q.share * (@known + CASE @filled WHEN 1 THEN @lacking ELSE 0 END - 1) AS middle)
                AS m
            CROSS APPLY (
                SELECT MAX(CASE y.side WHEN 0 THEN y.value END) AS before,
                    MAX(CASE y.side WHEN 1 THEN y.value END) AS behind
                FROM (SELECT x.side, sqlkmeans.prepared_value(
                          CASE WHEN @filled = 0 OR @lacking = 0 THEN x.later
                               WHEN x.earlier > @fill THEN x.earlier
                               WHEN x.later < @fill THEN x.later
                               ELSE @fill END,
                          CASE @filled WHEN 1 THEN @low END, CASE @filled WHEN 1 THEN @high END,
                          CASE @filled WHEN 1 THEN @transform ELSE N'none' END) AS value
                      FROM (SELECT p.side,
                                (SELECT r.value FROM #sqlkmeans_ranked AS r WHERE r.place = p.place)
                                    AS later,
                                (SELECT r.value FROM #sqlkmeans_ranked AS r
                                 WHERE r.place = p.place - @lacking) AS earlier
                            FROM (VALUES (0, FLOOR(m.middle) + 1), (1, CEILING(m.middle) + 1))
                                AS p (side, place)) AS x) AS y) AS t
            WHERE q.filled = @filled;
        IF @weighted = 1 AND EXISTS (SELECT 1 FROM #sqlkmeans_quantile AS q WHERE q.filled = @filled)
            UPDATE q
            SET value = w.value
            FROM #sqlkmeans_quantile AS q
            INNER JOIN (
                SELECT i.name, COALESCE(SUM(i.value * i.part) / NULLIF(SUM(i.part), 0e0),
                           MIN(CASE WHEN i.last >= i.low THEN i.value END)) AS value
                FROM (SELECT p.name, p.value, p.last, p.low,
                          CASE WHEN p.last <= p.low OR p.first >= p.high THEN 0e0
                               ELSE CASE WHEN p.last < p.high THEN p.last ELSE p.high END
                                  - CASE WHEN p.first > p.low THEN p.first ELSE p.low END END AS part
                      FROM (SELECT u.name, sqlkmeans.prepared_value(a.value,
                                    CASE @filled WHEN 1 THEN @low END, CASE @filled WHEN 1 THEN @high END,
                                    CASE @filled WHEN 1 THEN @transform ELSE N'none' END) AS value,
                                (a.upto - a.weight) / t.total AS first, a.upto / t.total AS last,
                                u.share * (1e0 - t.width) AS low,
                                u.share * (1e0 - t.width) + t.width AS high
                            FROM #sqlkmeans_quantile AS u
                            CROSS JOIN (SELECT CASE @filled WHEN 1 THEN @known_weight + @lacking_weight
                                                   ELSE @known_weight END AS total,
                                            CASE WHEN @filled = 1 AND @lacking > 0
                                                 THEN @squares / (@weight * @weight)
                                                 ELSE @known_squares / (@known_weight * @known_weight) END
                                                AS width) AS t
                            INNER JOIN (
                                SELECT s.value, s.weight, s.upto + CASE WHEN @filled = 1 AND s.value > @fill
                                    THEN @lacking_weight ELSE 0e0 END AS upto
                                FROM #sqlkmeans_sorted AS s
                                UNION ALL
                                SELECT @fill, @lacking_weight, @lacking_weight + COALESCE(
                                    (SELECT SUM(s.weight) FROM #sqlkmeans_sorted AS s
                                     WHERE s.value <= @fill), 0e0)
                                WHERE @filled = 1 AND @lacking > 0) AS a
                                ON a.upto / t.total >= u.share * (1e0 - t.width)
                               AND (a.upto - a.weight) / t.total <= u.share * (1e0 - t.width) + t.width
                            WHERE u.filled = @filled) AS p) AS i
                GROUP BY i.name) AS w
                ON w.name = q.name;
        IF @filled = 1
            BREAK;
        SELECT @fill = COALESCE(@fill, MAX(CASE q.name WHEN N'fill' THEN q.value END)),
            @low = MAX(CASE q.name WHEN N'low' THEN q.value END),
            @high = MAX(CASE q.name WHEN N'high' THEN q.value END)
        FROM #sqlkmeans_quantile AS q;
        SET @problem = CASE
            WHEN @low = @high THEN N'winsorize pulls every value in to ' + sqlkmeans.number_text(@low)
                + N'; use quantiles that lie further out, or none'
            WHEN @transform = N'log1p' AND @floors > 0 AND COALESCE(@low, -1e0) <= -1e0
                THEN CAST(@floors AS nvarchar(20))
                    + N' rows are -1 or less, where log1p has no value; use transform = "none" or '
                    + N'correct the rows' END;
        IF @problem IS NOT NULL
            BREAK;
        SET @filled = 1;
    END;

    UPDATE c
    SET fill = @fill, low = @low, high = @high, problem = c.name + N': ' + @problem,
        usable = CASE WHEN @problem IS NULL THEN 1 ELSE 0 END,
        fill_value = sqlkmeans.prepared_value(@fill, @low, @high, N'none'),
        origin = sqlkmeans.prepared_value(c.mean, @low, @high, @transform),
        center = CASE @scaling WHEN N'robust' THEN q.middle WHEN N'minmax' THEN m.least ELSE 0e0 END,
        scale = CASE @scaling WHEN N'robust' THEN q.last - q.first
                              WHEN N'minmax' THEN m.greatest - m.least ELSE 1e0 END
    FROM #sqlkmeans_column AS c
    CROSS JOIN (SELECT MAX(CASE a.name WHEN N'first' THEN a.value END) AS first,
                    MAX(CASE a.name WHEN N'middle' THEN a.value END) AS middle,
                    MAX(CASE a.name WHEN N'last' THEN a.value END) AS last
                FROM #sqlkmeans_quantile AS a) AS q
    CROSS APPLY (SELECT sqlkmeans.prepared_value(c.least, @low, @high, @transform) AS least,
                     sqlkmeans.prepared_value(c.greatest, @low, @high, @transform) AS greatest) AS m
    WHERE c.number = @number;
END;
GO
