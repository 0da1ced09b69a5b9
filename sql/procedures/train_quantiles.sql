IF OBJECT_ID(N'sqlkmeans.train_quantiles', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_quantiles AS RETURN 0;');
GO
-- Gives a number of the caller's #sqlkmeans_column its fill value, its limits, and its centre and scale
-- as far as they need no sum; or its problem. Whatever it takes of quantiles comes from one sort of
-- the column: filling in, pulling in and a logarithm change values, and not their order.
-- A quantile is the mean over a window of the cumulated weight that is as wide as one of the effective
-- number of rows (Akinshin, 2023); where all weigh the same, it lies between two neighbours (type 7 of
-- Hyndman & Fan, 1996). PERCENTILE_CONT is not on every server.
ALTER PROCEDURE sqlkmeans.train_quantiles
    @number   int,
    @whole    nvarchar(max),
    @scaling  nvarchar(16),
    @missing  nvarchar(16),
    @weighted bit,
    @weight   float,
    @squares  float
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @statement nvarchar(max);
    DECLARE @transform nvarchar(16);
    DECLARE @known float;
    DECLARE @fill float;
    DECLARE @low float;
    DECLARE @high float;
    DECLARE @floors bigint;
    DECLARE @filled bit = 0;
    DECLARE @problem nvarchar(max);

    -- Two looks: the first at what is known, whose quantiles fill in and pull in; the second at what
    -- K-Means will see, among which what is lacking has the weight @lacking.
    CREATE TABLE #sqlkmeans_quantile
    (
        name    nvarchar(10) COLLATE DATABASE_DEFAULT NOT NULL,
        filled  bit          NOT NULL,
        lacking float        NOT NULL,
        first   float        NOT NULL,
        last    float        NOT NULL,
        value   float        NULL
    );
    CREATE TABLE #sqlkmeans_ranked (value float NULL, first float NOT NULL, last float NOT NULL);

    SELECT @transform = c.transform, @known = c.weights, @floors = c.floors,
        @fill = CASE @missing WHEN N'mean' THEN c.mean END,
        @statement = N'INSERT INTO #sqlkmeans_ranked (value, first, last)
SELECT x.value, x.upto - x.weight, x.upto
FROM (SELECT v.value, v.weight, ' + CASE @weighted WHEN 0 THEN N'CAST(ROW_NUMBER() OVER (ORDER BY v.value) AS float)'
            ELSE N'SUM(v.weight) OVER (ORDER BY v.value, v.row_number ROWS UNBOUNDED PRECEDING)' END + N' AS upto
      FROM (SELECT ' + c.value + N' AS value, i.[sqlkmeans weight] AS weight, i.[sqlkmeans row] AS row_number
            FROM #sqlkmeans_input AS i
            WHERE i.[sqlkmeans weight] > 0e0 AND ' + c.value + N' IS NOT NULL' + @whole + N') AS v) AS x
WHERE EXISTS (SELECT 1 FROM #sqlkmeans_quantile AS q
              WHERE x.upto > q.first - q.lacking AND x.upto - x.weight < q.last
                AND (x.upto > q.first OR x.upto - x.weight < q.last - q.lacking));'
    FROM #sqlkmeans_column AS c
    WHERE c.number = @number;
    INSERT INTO #sqlkmeans_quantile (name, filled, lacking, first, last)
    SELECT q.name, q.filled, t.weight - c.weights, q.share * (t.weight - t.width),
        q.share * (t.weight - t.width) + t.width
    FROM #sqlkmeans_column AS c
    CROSS APPLY (VALUES (N'fill', CASE @missing WHEN N'median' THEN 0.5e0 END, 0),
        (N'low', c.low_share, 0), (N'high', c.high_share, 0),
        (N'first', CASE @scaling WHEN N'robust' THEN 0.25e0 END, 1),
        (N'middle', CASE @scaling WHEN N'robust' THEN 0.5e0 END, 1),
        (N'last', CASE @scaling WHEN N'robust' THEN 0.75e0 END, 1)) AS q (name, share, filled)
    CROSS APPLY (SELECT CASE WHEN q.filled = 1 AND @missing IN (N'mean', N'median') THEN 1 ELSE 0 END AS whole) AS a
    CROSS APPLY (SELECT CASE a.whole WHEN 1 THEN @weight ELSE c.weights END AS weight,
                     CASE a.whole WHEN 1 THEN @squares / @weight ELSE c.squares / c.weights END AS width) AS t
    WHERE c.number = @number AND q.share IS NOT NULL;
    IF EXISTS (SELECT 1 FROM #sqlkmeans_quantile AS q)
        EXECUTE sys.sp_executesql @statement;
    -- Before the first and behind the last of them is none.
    INSERT INTO #sqlkmeans_ranked (value, first, last) VALUES (NULL, -1e300, 0e0), (NULL, @known, 1e300);

    WHILE 1 = 1
    BEGIN
        -- Among all, a value is that of the known at the same place, where it is lower than what is
        -- filled in; of that before as many as are filled in, where it is higher. Pulled in and
        -- transformed the second time only, when the limits are known.
        UPDATE q
        SET value = w.value
        FROM #sqlkmeans_quantile AS q
        INNER JOIN (
            SELECT p.name, CASE WHEN MIN(p.value) = MAX(p.value) THEN MIN(p.value)
                                ELSE SUM(p.value * p.part) / SUM(p.part) END AS value
            FROM (SELECT u.name, s.last - s.first AS part, sqlkmeans.prepared_value(
                      CASE WHEN u.lacking = 0 OR b.value < @fill THEN b.value
                           WHEN a.value > @fill THEN a.value ELSE @fill END,
                      CASE @filled WHEN 1 THEN @low END, CASE @filled WHEN 1 THEN @high END,
                      CASE @filled WHEN 1 THEN @transform ELSE N'none' END) AS value
                  FROM #sqlkmeans_quantile AS u
                  INNER JOIN #sqlkmeans_ranked AS b ON b.last > u.first AND b.first < u.last
                  INNER JOIN #sqlkmeans_ranked AS a
                      ON a.last + u.lacking > u.first AND a.first + u.lacking < u.last
                  CROSS APPLY (SELECT MAX(v.first) AS first, MIN(v.last) AS last
                               FROM (VALUES (u.first, u.last), (b.first, b.last),
                                         (a.first + u.lacking, a.last + u.lacking)) AS v (first, last)) AS s
                  WHERE u.filled = @filled AND s.last > s.first) AS p
            GROUP BY p.name) AS w
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
    SET fill = @fill, low = @low, high = @high, problem = c.problem + COALESCE(c.name + N': ' + @problem + NCHAR(10), N''),
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
