IF OBJECT_ID(N'sqlkmeans.describe_scored', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.describe_scored AS RETURN 0;');
GO
-- Looks once at the labelled rows of the caller's #sqlkmeans_scored, for 300 numbers at a time, whose
-- features are those of @run_id. Leaves in the caller's
--   #sqlkmeans_overlap  customers and distances of each cluster and earlier segment,
--   #sqlkmeans_cluster  those of each cluster,
--   #sqlkmeans_moment   each feature's sums about the centroid, from #sqlkmeans_point,
--   #sqlkmeans_edge     how many values are not above an end of a bin, of @run_id or the published run,
--   #sqlkmeans_median   with @medians = 1, by a second look: of everyone as cluster 0.
-- A sample tells between which values a median lies, and only what lies there is sorted: a sample of
-- these rows, or @sample, a query of such rows that may use what sqlkmeans.nearest does.
ALTER PROCEDURE sqlkmeans.describe_scored
    @run_id   bigint,
    @active   bigint,
    @features int,
    @rows     bigint,
    @medians  bit,
    @sample   nvarchar(max) = NULL
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @position int = 0;
    DECLARE @number int;
    DECLARE @numbers int = 0;
    DECLARE @x nvarchar(10);
    DECLARE @o nvarchar(40);
    DECLARE @upper float;
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
    DECLARE @near nvarchar(max) = N'';
    DECLARE @any nvarchar(max) = N'';
    DECLARE @statement nvarchar(max);
    DECLARE @values nvarchar(max) = N'';
    DECLARE @step bigint = 1;

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

    DELETE FROM #sqlkmeans_overlap;
    DELETE FROM #sqlkmeans_moment;
    DELETE FROM #sqlkmeans_edge;
    DELETE FROM #sqlkmeans_median;
    INSERT INTO #sqlkmeans_edge (position, number, upper)
    SELECT e.position, ROW_NUMBER() OVER (PARTITION BY e.position ORDER BY e.upper), e.upper
    FROM (SELECT DISTINCT f.position, b.upper
          FROM sqlkmeans.feature_bin AS b
          INNER JOIN sqlkmeans.model_feature AS f
              ON f.run_id = @run_id AND f.source_column = b.feature AND f.type <> N'category'
          WHERE b.run_id IN (@run_id, @active) AND b.upper IS NOT NULL) AS e;

    IF @medians = 1
    BEGIN
        -- A column beside NEWID(), so that it is asked once a row and not once a statement.
        -- 8,000 rows are enough for four deviations of a rank to be few. Which rows they are changes
        -- how long it takes and not what is found.
        IF @sample IS NULL
            SET @step = 1 + @rows / 8000;
        ELSE
            SELECT @values = sqlkmeans.centroid_values(MAX(a.cluster), @features)
            FROM #sqlkmeans_point AS a;
        SET @statement = @values + N'INSERT INTO #sqlkmeans_near (cluster, position, value, customers)
SELECT g.cluster, v.position, v.value, COUNT_BIG(*)
FROM (' + COALESCE(@sample, N'SELECT TOP (16000) s.[sqlkmeans cluster]'
                + sqlkmeans.each_number(@features, N', s.[sqlkmeans o{}]', N'') + N'
      FROM #sqlkmeans_scored AS s
      WHERE (CHECKSUM(NEWID(), s.[sqlkmeans distance]) & 2147483647) % @step = 0') + N') AS s
CROSS APPLY (VALUES (0), (s.[sqlkmeans cluster])) AS g (cluster)
CROSS APPLY (VALUES ' + @each + N') AS v (position, value)
WHERE v.value IS NOT NULL
GROUP BY g.cluster, v.position, v.value;';
        EXECUTE sys.sp_executesql @statement, N'@step bigint', @step = @step;
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
        -- What the sample has no value of.
        INSERT INTO #sqlkmeans_bracket (cluster, position, low, high, below)
        SELECT c.cluster, p.position, -1.7e308, 1.7e308, 0
        FROM (SELECT DISTINCT a.cluster FROM #sqlkmeans_point AS a UNION ALL SELECT 0) AS c
        CROSS JOIN (SELECT DISTINCT a.position FROM #sqlkmeans_point AS a) AS p
        WHERE NOT EXISTS (SELECT 1 FROM #sqlkmeans_bracket AS b
                          WHERE b.cluster = c.cluster AND b.position = p.position);
    END;

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
        SET @number = 0;
        WHILE 1 = 1
        BEGIN
            SET @upper = NULL;
            SELECT TOP (1) @number = e.number, @upper = e.upper
            FROM #sqlkmeans_edge AS e
            WHERE e.position = @position AND e.number > @number
            ORDER BY e.number;
            IF @upper IS NULL
                BREAK;
            SET @sums = @sums + N', COUNT_BIG(CASE WHEN ' + @o + N' <= '
                + sqlkmeans.float_literal(@upper) + N' THEN 1 END) AS e' + @x + N'_'
                + CAST(@number AS nvarchar(10));
            SET @counts = @counts + N', (' + @x + N', ' + CAST(@number AS nvarchar(10)) + N', w.e'
                + @x + N'_' + CAST(@number AS nvarchar(10)) + N')';
            SET @numbers = @numbers + 1;
        END;
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
            SET @near = @near + REPLACE(REPLACE(
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
    SUM(s.[sqlkmeans weight]) AS weight, COUNT_BIG(s.[sqlkmeans other]) AS tied' + @sums + N'
INTO #sqlkmeans_wide
' + REPLACE(@group, N'{}', @origins) + N'
GROUP BY s.[sqlkmeans cluster], s.[sqlkmeans previous];
INSERT INTO #sqlkmeans_overlap (cluster, previous, customers, distance, within_ss, inertia, weight, tied)
SELECT w.cluster, w.previous, w.customers, w.distance, w.within_ss, w.inertia, w.weight, w.tied
FROM #sqlkmeans_wide AS w
WHERE NOT EXISTS (SELECT 1 FROM #sqlkmeans_overlap AS o);
INSERT INTO #sqlkmeans_moment (cluster, position, known, total, squares, lowest, highest)
SELECT w.cluster, v.position, SUM(v.known), COALESCE(SUM(v.total), 0e0), COALESCE(SUM(v.squares), 0e0),
    MIN(v.lowest), MAX(v.highest)
FROM #sqlkmeans_wide AS w
CROSS APPLY (VALUES ' + STUFF(@moments, 1, 2, N'')
            + N') AS v (position, known, total, squares, lowest, highest)
GROUP BY w.cluster, v.position;
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
CROSS APPLY (VALUES ' + STUFF(@near, 1, 2, N'') + N') AS v (cluster, position, value, low, high)
WHERE (' + STUFF(@any, 1, 4, N'') + N') AND v.value BETWEEN v.low AND v.high
GROUP BY v.cluster, v.position, v.value;
' END + N'DROP TABLE #sqlkmeans_wide;';
        EXECUTE sys.sp_executesql @statement;
        SELECT @numbers = 0, @origins = N'', @sums = N'', @moments = N'', @counts = N'',
            @below = N'', @near = N'', @any = N'';
    END;

    UPDATE #sqlkmeans_cluster SET size = 0;
    UPDATE c
    SET size = n.size, within_ss = n.within_ss, inertia = n.inertia, weight = n.weight,
        distance = n.distance / n.size
    FROM #sqlkmeans_cluster AS c
    INNER JOIN (SELECT o.cluster, SUM(o.customers) AS size, SUM(o.within_ss) AS within_ss,
                    SUM(o.inertia) AS inertia, SUM(o.weight) AS weight, SUM(o.distance) AS distance
                FROM #sqlkmeans_overlap AS o
                GROUP BY o.cluster) AS n
        ON n.cluster = c.cluster;

    WHILE @medians = 1
    BEGIN
        -- The mean of the two values in the middle, which are one where their number is odd.
        INSERT INTO #sqlkmeans_median (cluster, position, median)
        SELECT r.cluster, r.position, (MIN(CASE WHEN r.upto >= (n.known + 1) / 2 THEN r.value END)
            + MIN(CASE WHEN r.upto >= (n.known + 2) / 2 THEN r.value END)) / 2e0
        FROM (SELECT a.cluster, a.position, a.value, b.below,
                  b.below + SUM(a.customers) OVER (PARTITION BY a.cluster, a.position
                                                   ORDER BY a.value ROWS UNBOUNDED PRECEDING) AS upto
              FROM #sqlkmeans_near AS a
              INNER JOIN #sqlkmeans_bracket AS b
                  ON b.cluster = a.cluster AND b.position = a.position) AS r
        INNER JOIN (SELECT m.cluster, m.position, m.known FROM #sqlkmeans_moment AS m
                    UNION ALL
                    SELECT 0, m.position, SUM(m.known) FROM #sqlkmeans_moment AS m
                    GROUP BY m.position) AS n
            ON n.cluster = r.cluster AND n.position = r.position
        WHERE NOT EXISTS (SELECT 1 FROM #sqlkmeans_median AS d
                          WHERE d.cluster = r.cluster AND d.position = r.position)
        GROUP BY r.cluster, r.position, r.below, n.known
        HAVING r.below < (n.known + 1) / 2 AND MAX(r.upto) >= (n.known + 2) / 2;

        -- Of a column whose sample misled, all values.
        SET @position = NULL;
        SELECT TOP (1) @position = b.position
        FROM #sqlkmeans_bracket AS b
        INNER JOIN #sqlkmeans_moment AS m ON m.position = b.position AND m.known > 0
        WHERE b.cluster IN (0, m.cluster)
          AND NOT EXISTS (SELECT 1 FROM #sqlkmeans_median AS d
                          WHERE d.cluster = b.cluster AND d.position = b.position)
        ORDER BY b.position;
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
