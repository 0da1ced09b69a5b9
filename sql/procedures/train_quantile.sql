IF OBJECT_ID(N'sqlkmeans.train_quantile', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_quantile AS RETURN 0;');
GO
-- A quantile of the values v of a query, interpolated between two neighbours (type 7 of Hyndman and
-- Fan, 1996). With weights, the mean over a window of the cumulated weight that is as wide as one
-- of the effective number of rows (Akinshin, 2023). PERCENTILE_CONT is not on every server.
ALTER PROCEDURE sqlkmeans.train_quantile
    @query    nvarchar(max),
    @share    float,
    @weighted bit,
    @result   float OUTPUT
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @statement nvarchar(max) = CASE @weighted WHEN 0 THEN N'
SELECT @result = MIN(p.v) + (MAX(p.v) - MIN(p.v)) * MAX(p.middle - FLOOR(p.middle))
FROM (SELECT x.v, ROW_NUMBER() OVER (ORDER BY x.v) - 1 AS place,
          (COUNT_BIG(*) OVER () - 1) * @share AS middle
      FROM (' + @query + N') AS x) AS p
WHERE p.place BETWEEN FLOOR(p.middle) AND CEILING(p.middle);'
    ELSE N'
SELECT @result = COALESCE(SUM(i.v * i.part) / NULLIF(SUM(i.part), 0e0),
    MIN(CASE WHEN i.last >= i.low THEN i.v END))
FROM (
    SELECT p.v, p.last, p.low, CASE WHEN p.last <= p.low OR p.first >= p.high THEN 0e0
        ELSE CASE WHEN p.last < p.high THEN p.last ELSE p.high END
           - CASE WHEN p.first > p.low THEN p.first ELSE p.low END END AS part
    FROM (
        SELECT e.v, e.first, e.last, @share * (1e0 - e.width) AS low,
            @share * (1e0 - e.width) + e.width AS high
        FROM (
            SELECT c.v, (c.upto - c.w) / c.total AS first, c.upto / c.total AS last,
                c.squares / (c.total * c.total) AS width
            FROM (
                SELECT x.v, x.w, SUM(x.w * x.w) OVER () AS squares, SUM(x.w) OVER () AS total,
                    SUM(x.w) OVER (ORDER BY x.v, x.row_number ROWS UNBOUNDED PRECEDING) AS upto
                FROM (' + @query + N') AS x
            ) AS c
        ) AS e
    ) AS p
) AS i;' END;

    EXECUTE sys.sp_executesql @statement, N'@share float, @result float OUTPUT',
        @share = @share, @result = @result OUTPUT;
END;
GO
