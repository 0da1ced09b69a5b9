IF OBJECT_ID(N'sqlkmeans.describe_scored', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.describe_scored AS RETURN 0;');
GO
-- Looks once at the labelled rows of the caller's #sqlkmeans_scored, for 300 numbers at a time, whose
-- features are those of @run_id. Leaves in the caller's
--   #sqlkmeans_overlap  customers and distances of each cluster and earlier segment,
--   #sqlkmeans_cluster  those of each cluster,
--   #sqlkmeans_edge     how many values are not above an end of a bin, of @run_id or the published run,
--   #sqlkmeans_profile  each feature in its own units, with @medians = 1 medians by a second look: of
--                       each cluster, from sums about its #sqlkmeans_point, and of everyone as 0.
-- Only what lies near a median is sorted: near that of the run @near, or of @sample, a query of such
-- rows that may use what sqlkmeans.nearest does.
ALTER PROCEDURE sqlkmeans.describe_scored
    @run_id   bigint,
    @active   bigint,
    @features int,
    @medians  bit,
    @near     bigint        = NULL,
    @sample   nvarchar(max) = NULL
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @position int = 0;
    DECLARE @number int;
    DECLARE @numbers int = 0;
    DECLARE @x nvarchar(10);
    DECLARE @o nvarchar(40);
    DECLARE @group nvarchar(max) = N' FROM #sqlkmeans_scored AS s
INNER JOIN (SELECT a.cluster{} FROM #sqlkmeans_point AS a
            LEFT JOIN #sqlkmeans_bracket AS b
                ON b.position = a.position AND b.cluster IN (0, a.cluster)
            GROUP BY a.cluster) AS p
    ON p.cluster = s.[sqlkmeans cluster]';
    DECLARE @each nvarchar(max) = sqlkmeans.each_number(
        @features, N'({}, s.[sqlkmeans o{}])', N', ');
    DECLARE @origins nvarchar(max) = N'';
    DECLARE @sums nvarchar(max) = N'';
    DECLARE @moments nvarchar(max) = N'';
    DECLARE @counts nvarchar(max) = N'';
    DECLARE @below nvarchar(max) = N'';
    DECLARE @close nvarchar(max) = N'';
    DECLARE @any nvarchar(max) = N'';
    DECLARE @statement nvarchar(max);
    DECLARE @values nvarchar(max);

    -- A median lies from low to high, behind so many values that are lower.
    CREATE TABLE #sqlkmeans_bracket
    (
        cluster  int    NOT NULL,
        position int    NOT NULL,
        low      float  NOT NULL,
        high     float  NOT NULL,
        below    bigint NOT NULL
    );
    CREATE TABLE #sqlkmeans_near
    (
        cluster   int    NOT NULL,
        position  int    NOT NULL,
        value     float  NOT NULL,
        customers bigint NOT NULL
    );

    INSERT INTO #sqlkmeans_edge (position, number, upper)
    SELECT e.position, ROW_NUMBER() OVER (PARTITION BY e.position ORDER BY e.upper), e.upper
    FROM (SELECT DISTINCT f.position, b.upper
          FROM sqlkmeans.feature_bin AS b
          INNER JOIN sqlkmeans.model_feature AS f
              ON f.run_id = @run_id AND f.source_column = b.feature AND f.type <> N'category'
          WHERE b.run_id IN (@run_id, @active) AND b.upper IS NOT NULL) AS e;

    -- Beyond a width that is larger where rows are few, no median moves from night to night: where a
    -- tenth of the rows are others, it moves by 0.6 deviations over the root of their number.
    INSERT INTO #sqlkmeans_bracket (cluster, position, low, high, below)
    SELECT COALESCE(c.cluster, 0), f.position, f.median - t.reach, f.median + t.reach, 0
    FROM sqlkmeans.segment_feature AS f
    INNER JOIN sqlkmeans.segment AS s ON s.run_id = f.run_id AND s.segment_id = f.segment_id
    LEFT JOIN #sqlkmeans_cluster AS c ON c.segment_id = f.segment_id
    CROSS APPLY (SELECT f.deviation * (0.005e0 + 2e0 / SQRT(s.size + 1e0)) AS reach) AS t
    WHERE f.run_id = @near AND @medians = 1 AND f.median IS NOT NULL
      AND (c.cluster IS NOT NULL OR f.segment_id = 0);
    IF @sample IS NOT NULL
    BEGIN
        -- 8,000 rows are enough for four deviations of a rank to be few.
        SELECT @values = sqlkmeans.centroid_values(MAX(a.cluster), @features)
        FROM #sqlkmeans_point AS a;
        SET @statement = @values + N'INSERT INTO #sqlkmeans_near (cluster, position, value, customers)
SELECT g.cluster, v.position, v.value, COUNT_BIG(*)
FROM (' + @sample + N') AS s
CROSS APPLY (VALUES (0), (s.[sqlkmeans cluster])) AS g (cluster)
CROSS APPLY (VALUES ' + @each + N') AS v (position, value)
WHERE v.value IS NOT NULL
GROUP BY g.cluster, v.position, v.value;';
        EXECUTE sys.sp_executesql @statement;
        INSERT INTO #sqlkmeans_bracket (cluster, position, low, high, below)
        SELECT r.cluster, r.position,
            COALESCE(MIN(CASE WHEN n.customers / 2 - t.reach >= 1
                               AND r.upto >= n.customers / 2 - t.reach THEN r.value END), -1.7e308),
            COALESCE(MIN(CASE WHEN r.upto >= n.customers / 2 + t.reach THEN r.value END), 1.7e308), 0
        FROM (SELECT a.cluster, a.position, a.value,
                  SUM(a.customers) OVER (PARTITION BY a.cluster, a.position ORDER BY a.value
                                         ROWS UNBOUNDED PRECEDING) AS upto
              FROM #sqlkmeans_near AS a) AS r
        INNER JOIN (SELECT a.cluster, a.position, SUM(a.customers) AS customers
                    FROM #sqlkmeans_near AS a
                    GROUP BY a.cluster, a.position) AS n
            ON n.cluster = r.cluster AND n.position = r.position
        CROSS APPLY (SELECT 2 + CAST(2 * SQRT(n.customers) AS bigint) AS reach) AS t
        GROUP BY r.cluster, r.position;
        DELETE FROM #sqlkmeans_near;
    END;
    -- Of what neither has a value of, all.
    INSERT INTO #sqlkmeans_bracket (cluster, position, low, high, below)
    SELECT c.cluster, p.position, -1.7e308, 1.7e308, 0
    FROM (SELECT DISTINCT a.cluster FROM #sqlkmeans_point AS a UNION ALL SELECT 0) AS c
    CROSS JOIN (SELECT DISTINCT a.position FROM #sqlkmeans_point AS a) AS p
    WHERE NOT EXISTS (SELECT 1 FROM #sqlkmeans_bracket AS b
                      WHERE b.cluster = c.cluster AND b.position = p.position);

    WHILE @position < @features
    BEGIN
        SET @position = @position + 1;
        SET @x = CAST(@position AS nvarchar(10));
        SET @o = N's.[sqlkmeans o' + @x + N']';
        SET @origins = @origins + REPLACE(
            N', MAX(CASE a.position WHEN {} THEN a.value END) AS c{}', N'{}', @x);
        SET @sums = @sums + REPLACE(REPLACE(
            N', COUNT_BIG(~) AS n{}, SUM(~ - p.c{}) AS s{}, SUM((~ - p.c{}) * (~ - p.c{})) AS q{}'
            + N', MIN(~) AS l{}, MAX(~) AS h{}', N'~', @o), N'{}', @x);
        SET @moments = @moments + REPLACE(
            N', ({}, w.n{}, w.s{}, w.q{}, w.l{}, w.h{})', N'{}', @x);
        SET @numbers = @numbers + 5;
        SET @sums = @sums + sqlkmeans.joined((
            SELECT N', COUNT_BIG(CASE WHEN ' + @o + N' <= ' + sqlkmeans.float_literal(e.upper)
                + N' THEN 1 END) AS e' + @x + N'_' + CAST(e.number AS nvarchar(10))
            FROM #sqlkmeans_edge AS e
            WHERE e.position = @position
            ORDER BY e.number
            FOR XML PATH('')), N'');
        SELECT @number = COUNT(*) FROM #sqlkmeans_edge AS e WHERE e.position = @position;
        SET @counts = @counts + REPLACE(
            sqlkmeans.each_number(@number, N', (~, {}, w.e~_{})', N''), N'~', @x);
        SET @numbers = @numbers + @number;
        IF @medians = 1
        BEGIN
            SET @origins = @origins + REPLACE(
                N', MAX(CASE WHEN a.position = {} AND b.cluster > 0 THEN b.low END) AS cl{}'
                + N', MAX(CASE WHEN a.position = {} AND b.cluster > 0 THEN b.high END) AS ch{}'
                + N', MAX(CASE WHEN a.position = {} AND b.cluster = 0 THEN b.low END) AS el{}'
                + N', MAX(CASE WHEN a.position = {} AND b.cluster = 0 THEN b.high END) AS eh{}',
                N'{}', @x);
            SET @sums = @sums + REPLACE(REPLACE(
                N', COUNT_BIG(CASE WHEN ~ < p.cl{} THEN 1 END) AS cb{}'
                + N', COUNT_BIG(CASE WHEN ~ < p.el{} THEN 1 END) AS eb{}', N'~', @o), N'{}', @x);
            SET @below = @below + REPLACE(N', (w.cluster, {}, w.cb{}), (0, {}, w.eb{})', N'{}', @x);
            SET @close = @close + REPLACE(REPLACE(
                N', (s.[sqlkmeans cluster], {}, ~, p.cl{}, p.ch{}), (0, {}, ~, p.el{}, p.eh{})',
                N'~', @o), N'{}', @x);
            SET @any = @any + REPLACE(REPLACE(
                N' OR ~ BETWEEN p.cl{} AND p.ch{} OR ~ BETWEEN p.el{} AND p.eh{}',
                N'~', @o), N'{}', @x);
            SET @numbers = @numbers + 2;
        END;
        IF @numbers < 300 AND @position < @features
            CONTINUE;

        SET @statement = N'SELECT s.[sqlkmeans cluster] AS cluster, s.[sqlkmeans previous] AS previous,
    COUNT_BIG(*) AS customers, SUM(s.[sqlkmeans distance]) AS distance,
    SUM(s.[sqlkmeans distance] * s.[sqlkmeans distance]) AS within_ss,
    SUM(s.[sqlkmeans weight] * s.[sqlkmeans distance] * s.[sqlkmeans distance]) AS inertia,
    SUM(s.[sqlkmeans weight]) AS weight' + @sums + N'
INTO #sqlkmeans_wide
' + REPLACE(@group, N'{}', @origins) + N'
GROUP BY s.[sqlkmeans cluster], s.[sqlkmeans previous];
INSERT INTO #sqlkmeans_overlap (cluster, previous, customers, distance, within_ss, inertia, weight)
SELECT w.cluster, w.previous, w.customers, w.distance, w.within_ss, w.inertia, w.weight
FROM #sqlkmeans_wide AS w
WHERE NOT EXISTS (SELECT 1 FROM #sqlkmeans_overlap AS o);
INSERT INTO #sqlkmeans_profile (cluster, position, known, mean, deviation, lowest, highest)
SELECT m.cluster, m.position, m.known, p.value + m.rest, CASE
        WHEN m.highest > m.lowest AND m.spread > m.rest * m.rest THEN SQRT(m.spread - m.rest * m.rest)
        WHEN m.known > 0 THEN 0e0 END, m.lowest, m.highest
FROM (SELECT w.cluster, v.position, SUM(v.known) AS known, SUM(v.total) / NULLIF(SUM(v.known), 0) AS rest,
          SUM(v.squares) / NULLIF(SUM(v.known), 0) AS spread, MIN(v.lowest) AS lowest, MAX(v.highest) AS highest
      FROM #sqlkmeans_wide AS w
      CROSS APPLY (VALUES ' + STUFF(@moments, 1, 2, N'')
            + N') AS v (position, known, total, squares, lowest, highest)
      GROUP BY w.cluster, v.position) AS m
INNER JOIN #sqlkmeans_point AS p ON p.cluster = m.cluster AND p.position = m.position;
' + CASE WHEN @counts = N'' THEN N'' ELSE N'UPDATE e
SET customers = n.customers
FROM #sqlkmeans_edge AS e
INNER JOIN (SELECT v.position, v.number, SUM(v.customers) AS customers
            FROM #sqlkmeans_wide AS w
            CROSS APPLY (VALUES ' + STUFF(@counts, 1, 2, N'') + N') AS v (position, number, customers)
            GROUP BY v.position, v.number) AS n
    ON n.position = e.position AND n.number = e.number;
' END + CASE @medians WHEN 0 THEN N'' ELSE N'UPDATE b
SET below = n.customers
FROM #sqlkmeans_bracket AS b
INNER JOIN (SELECT v.cluster, v.position, SUM(v.customers) AS customers
            FROM #sqlkmeans_wide AS w
            CROSS APPLY (VALUES ' + STUFF(@below, 1, 2, N'') + N') AS v (cluster, position, customers)
            GROUP BY v.cluster, v.position) AS n
    ON n.cluster = b.cluster AND n.position = b.position;
INSERT INTO #sqlkmeans_near (cluster, position, value, customers)
SELECT v.cluster, v.position, v.value, COUNT_BIG(*)
' + REPLACE(@group, N'{}', @origins) + N'
CROSS APPLY (VALUES ' + STUFF(@close, 1, 2, N'') + N') AS v (cluster, position, value, low, high)
WHERE (' + STUFF(@any, 1, 4, N'') + N') AND v.value BETWEEN v.low AND v.high
GROUP BY v.cluster, v.position, v.value;
' END + N'DROP TABLE #sqlkmeans_wide;';
        EXECUTE sys.sp_executesql @statement;
        SELECT @numbers = 0, @origins = N'', @sums = N'', @moments = N'', @counts = N'',
            @below = N'', @close = N'', @any = N'';
    END;

    UPDATE #sqlkmeans_cluster SET size = 0;
    UPDATE c
    SET size = n.size, within_ss = n.within_ss, inertia = n.inertia, weight = n.weight,
        distance = n.distance / NULLIF(n.size, 0)
    FROM #sqlkmeans_cluster AS c
    INNER JOIN (SELECT o.cluster, SUM(o.customers) AS size, SUM(o.within_ss) AS within_ss,
                    SUM(o.inertia) AS inertia, SUM(o.weight) AS weight, SUM(o.distance) AS distance
                FROM #sqlkmeans_overlap AS o
                GROUP BY o.cluster) AS n
        ON n.cluster = c.cluster;

    -- Means and squares of parts add up to those of the whole (Chan, Golub & LeVeque, 1983).
    INSERT INTO #sqlkmeans_profile (cluster, position, known, mean, deviation, lowest, highest)
    SELECT 0, a.position, MAX(a.known), MAX(a.mean), SQRT(SUM(p.known * (p.deviation * p.deviation
            + (p.mean - a.mean) * (p.mean - a.mean))) / NULLIF(MAX(a.known), 0)),
        MIN(p.lowest), MAX(p.highest)
    FROM #sqlkmeans_profile AS p
    INNER JOIN (SELECT q.position, SUM(q.known) AS known, MAX(b.mean)
                    + SUM(q.known * (q.mean - b.mean)) / NULLIF(SUM(q.known), 0) AS mean
                FROM #sqlkmeans_profile AS q
                INNER JOIN (SELECT o.position, MIN(o.mean) AS mean
                            FROM #sqlkmeans_profile AS o
                            GROUP BY o.position) AS b
                    ON b.position = q.position
                GROUP BY q.position) AS a
        ON a.position = p.position
    GROUP BY a.position;
    UPDATE p
    SET importance = CASE WHEN p.cluster = 0 OR e.deviation = 0 THEN 0e0
                          ELSE COALESCE((p.mean - e.mean) / e.deviation, 0e0) END
    FROM #sqlkmeans_profile AS p
    INNER JOIN #sqlkmeans_profile AS e ON e.cluster = 0 AND e.position = p.position;

    WHILE @medians = 1
    BEGIN
        -- The mean of the two values in the middle, which are one where their number is odd.
        UPDATE p
        SET median = m.median
        FROM #sqlkmeans_profile AS p
        INNER JOIN (
            SELECT r.cluster, r.position, (MIN(CASE WHEN r.upto >= (r.known + 1) / 2 THEN r.value END)
                + MIN(CASE WHEN r.upto >= (r.known + 2) / 2 THEN r.value END)) / 2e0 AS median
            FROM (SELECT a.cluster, a.position, a.value, b.below, n.known,
                      b.below + SUM(a.customers) OVER (PARTITION BY a.cluster, a.position
                                                       ORDER BY a.value ROWS UNBOUNDED PRECEDING) AS upto
                  FROM #sqlkmeans_near AS a
                  INNER JOIN #sqlkmeans_bracket AS b
                      ON b.cluster = a.cluster AND b.position = a.position
                  INNER JOIN #sqlkmeans_profile AS n
                      ON n.cluster = a.cluster AND n.position = a.position) AS r
            GROUP BY r.cluster, r.position, r.below, r.known
            HAVING r.below < (r.known + 1) / 2 AND MAX(r.upto) >= (r.known + 2) / 2) AS m
            ON m.cluster = p.cluster AND m.position = p.position
        WHERE p.median IS NULL;

        -- Of a column whose median lies elsewhere, all values.
        SET @position = NULL;
        SELECT TOP (1) @position = p.position
        FROM #sqlkmeans_profile AS p
        WHERE p.known > 0 AND p.median IS NULL
        ORDER BY p.position;
        IF @position IS NULL
            BREAK;
        DELETE FROM #sqlkmeans_near WHERE position = @position;
        UPDATE #sqlkmeans_bracket SET below = 0 WHERE position = @position;
        SET @statement = N'INSERT INTO #sqlkmeans_near (cluster, position, value, customers)
SELECT g.cluster, @position, g.value, COUNT_BIG(*)
FROM #sqlkmeans_scored AS s
CROSS APPLY (VALUES (0, s.[sqlkmeans o{}]), (s.[sqlkmeans cluster], s.[sqlkmeans o{}])) AS g (cluster, value)
WHERE g.value IS NOT NULL
GROUP BY g.cluster, g.value;';
        SET @statement = REPLACE(@statement, N'{}', CAST(@position AS nvarchar(10)));
        EXECUTE sys.sp_executesql @statement, N'@position int', @position = @position;
    END;
END;
GO
