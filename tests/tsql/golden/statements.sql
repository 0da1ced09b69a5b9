SET @arrived = 1;
GO
INSERT INTO #sqlkmeans_target_object (position, name, kind, wanted, owner, fires, marked)
SELECT n.position, sqlkmeans.quoted_name(@text, n.suffix) COLLATE DATABASE_DEFAULT, COALESCE(o.kind, N''),
    n.wanted, USER_NAME(COALESCE(o.principal_id, s.principal_id)),
    (SELECT MIN(g.name) FROM sys.triggers AS g
     WHERE g.parent_id = o.object_id AND g.is_disabled = 0),
    CASE WHEN EXISTS (SELECT 1 FROM sys.extended_properties AS e
                      WHERE e.class = 1 AND e.major_id = o.object_id AND e.minor_id = 0
                        AND e.name = N'sqlkmeans') THEN 1 ELSE 0 END
FROM (VALUES (1, N'', N'U'), (2, N'_history', N'U'), (3, N'_named', N'V'))
    AS n (position, suffix, wanted)
INNER JOIN sys.schemas AS s ON s.schema_id = SCHEMA_ID(COALESCE(PARSENAME(@text, 2), N'dbo'))
LEFT JOIN (SELECT t.object_id, t.principal_id, N'U' AS kind FROM sys.tables AS t
           WHERE t.is_external = 0
           UNION ALL
           SELECT v.object_id, v.principal_id, N'V' FROM sys.views AS v) AS o
    ON o.object_id = OBJECT_ID(sqlkmeans.quoted_name(@text, n.suffix))
WHERE OBJECT_ID(sqlkmeans.quoted_name(@text, n.suffix)) IS NOT NULL
UNION ALL
SELECT 4, QUOTENAME(s.name) COLLATE DATABASE_DEFAULT, N'schema', N'schema', USER_NAME(s.principal_id), NULL, 1
FROM sys.schemas AS s
WHERE s.schema_id = SCHEMA_ID(COALESCE(PARSENAME(@text, 2), N'dbo'));
GO
INSERT INTO #sqlkmeans_target_column (name, type)
        SELECT c.name,
            sqlkmeans.type_text(TYPE_NAME(c.system_type_id), c.max_length, c.[precision], c.scale, c.collation_name)
        FROM sys.columns AS c
        WHERE c.object_id = OBJECT_ID(@text);
GO
UPDATE c
        SET masked = 1
        FROM #sqlkmeans_source_column AS c
        INNER JOIN sys.columns AS s
            ON s.object_id = OBJECT_ID(c.base_table) AND s.name COLLATE DATABASE_DEFAULT = c.base_column
        WHERE s.is_masked = 1;
GO
CREATE TABLE sqlkmeans.[staging_1] ([customer_id] bigint NOT NULL, cluster int NOT NULL, distance float NOT NULL, departed bit NOT NULL DEFAULT (0), is_outlier bit NULL, PRIMARY KEY CLUSTERED ([customer_id], departed));
GO
GRANT SELECT, INSERT ON sqlkmeans.[staging_1] TO sqlkmeans_operator;
GO
SELECT @arrived = COUNT_BIG(*) FROM sqlkmeans.[staging_1];
GO
SELECT @arrived = OBJECT_ID(N'[dbo].[customer_segment]'), @moved = OBJECT_ID(N'[dbo].[customer_segment_history]'), @departed = OBJECT_ID(N'[dbo].[customer_segment_named]');
GO
INSERT INTO #sqlkmeans_table_column (name, type)
        SELECT c.name,
            sqlkmeans.type_text(TYPE_NAME(c.system_type_id), c.max_length, c.[precision], c.scale, c.collation_name)
        FROM sys.columns AS c
        WHERE c.object_id = OBJECT_ID(@text);
GO
CREATE TABLE [dbo].[customer_segment_history] ([customer_id] bigint NOT NULL, segment_id int NOT NULL, distance float NOT NULL, is_outlier bit NOT NULL, valid_from datetime2(6) NOT NULL, valid_to datetime2(6) NULL, run_id bigint NOT NULL, PRIMARY KEY CLUSTERED ([customer_id], valid_from));
GO
DECLARE @value nvarchar(128) = @text;
DECLARE @schema nvarchar(128) = N'dbo';
DECLARE @object nvarchar(128) = N'customer_segment_history';
EXECUTE sys.sp_addextendedproperty @name = N'sqlkmeans', @value = @value,
    @level0type = N'SCHEMA', @level0name = @schema,
    @level1type = N'TABLE', @level1name = @object;
GRANT SELECT ON [dbo].[customer_segment_history] TO sqlkmeans_reader;
GO
UPDATE [dbo].[customer_segment_history] SET valid_to = @now WHERE valid_to IS NULL;
GO
CREATE TABLE [dbo].[customer_segment] ([customer_id] bigint NOT NULL, segment_id int NOT NULL, distance float NOT NULL, is_outlier bit NOT NULL, run_id bigint NOT NULL, assigned_at datetime2(6) NOT NULL, PRIMARY KEY CLUSTERED ([customer_id]));
GO
DECLARE @value nvarchar(128) = @text;
DECLARE @schema nvarchar(128) = N'dbo';
DECLARE @object nvarchar(128) = N'customer_segment';
EXECUTE sys.sp_addextendedproperty @name = N'sqlkmeans', @value = @value,
    @level0type = N'SCHEMA', @level0name = @schema,
    @level1type = N'TABLE', @level1name = @object;
GRANT SELECT ON [dbo].[customer_segment] TO sqlkmeans_reader;
GO
CREATE VIEW [dbo].[customer_segment_named] AS SELECT t.[customer_id], t.segment_id, t.distance, t.is_outlier, t.run_id, t.assigned_at, s.name AS segment_name FROM [dbo].[customer_segment] AS t INNER JOIN sqlkmeans.segmentation AS g ON g.name = N'customers' LEFT JOIN sqlkmeans.segment AS s ON s.run_id = g.active_run_id AND s.segment_id = t.segment_id;
GO
DECLARE @value nvarchar(128) = @text;
DECLARE @schema nvarchar(128) = N'dbo';
DECLARE @object nvarchar(128) = N'customer_segment_named';
EXECUTE sys.sp_addextendedproperty @name = N'sqlkmeans', @value = @value,
    @level0type = N'SCHEMA', @level0name = @schema,
    @level1type = N'VIEW', @level1name = @object;
GRANT SELECT ON [dbo].[customer_segment_named] TO sqlkmeans_reader;
GO
SELECT @moved = COUNT_BIG(*) FROM (SELECT DISTINCT l.cluster FROM sqlkmeans.[staging_1] AS l WHERE l.departed = 0) AS s WHERE NOT EXISTS (SELECT 1 FROM OPENJSON(@text) AS j WHERE CAST(j.[key] AS int) = s.cluster);
SELECT @arrived = COUNT_BIG(*) FROM (SELECT TOP (1) 1 AS one FROM [dbo].[customer_segment]) AS t;
GO
SET NOCOUNT ON;
CREATE TABLE #sqlkmeans_cluster_segment
    (cluster int NOT NULL PRIMARY KEY, segment_id int NOT NULL, outlier_distance float NULL);
INSERT INTO #sqlkmeans_cluster_segment (cluster, segment_id, outlier_distance)
SELECT CAST(j.[key] AS int), CAST(j.[value] AS int), o.outlier_distance
FROM OPENJSON(@text) AS j
LEFT JOIN #sqlkmeans_outlier AS o ON o.segment_id = CAST(j.[value] AS int);
UPDATE [dbo].[customer_segment_history] SET valid_to = @now WHERE valid_to IS NULL;
INSERT INTO [dbo].[customer_segment] WITH (TABLOCK) ([customer_id], segment_id, distance, is_outlier, run_id, assigned_at)
SELECT s.[customer_id], l.segment_id, s.distance, f.is_outlier, @run_id, @now
FROM sqlkmeans.[staging_1] AS s
INNER JOIN #sqlkmeans_cluster_segment AS l ON l.cluster = s.cluster
CROSS APPLY (SELECT COALESCE(s.is_outlier,
    CASE WHEN s.distance > l.outlier_distance THEN 1 ELSE 0 END) AS is_outlier) AS f
WHERE s.departed = 0
ORDER BY s.[customer_id];
SET @arrived = ROWCOUNT_BIG();
INSERT INTO [dbo].[customer_segment_history] WITH (TABLOCK) ([customer_id], segment_id, distance, is_outlier, valid_from, valid_to, run_id)
SELECT t.[customer_id], t.segment_id, t.distance, t.is_outlier, @now, NULL, @run_id
FROM [dbo].[customer_segment] AS t
ORDER BY t.[customer_id];
SET @moved = 0;
SET @departed = 0;
SET @written = @arrived;
DROP TABLE #sqlkmeans_cluster_segment;
GO
DROP TABLE IF EXISTS sqlkmeans.[staging_1];
GO
CREATE FUNCTION sqlkmeans.[assign_customers] (@income float, @age float)
RETURNS TABLE
AS
RETURN (
SELECT n.segment_id, n.segment_name, SQRT(n.squared_distance) AS distance,
    (SELECT SQRT(MIN(d.squared_distance))
FROM (VALUES
    (1, N'younger, low income', CAST(NULL AS float), 0.5e0, 0.5e0),
    (2, N'older', CAST(NULL AS float), 0.5e0, 0.5e0),
    (3, N'very high income, much older', CAST(NULL AS float), 0.5e0, 0.5e0)) AS c (segment_id, segment_name, outlier_distance, c1, c2)
CROSS APPLY (SELECT (z.z1 - c.c1) * (z.z1 - c.c1) + (z.z2 - c.c2) * (z.z2 - c.c2) AS squared_distance) AS d
WHERE c.segment_id <> n.segment_id) AS runner_up_distance,
    CAST(CASE WHEN SQRT(n.squared_distance) > n.outlier_distance THEN 1
              WHEN n.segment_id IS NOT NULL THEN 0 END AS bit) AS is_outlier
FROM (SELECT @income AS o1, @age AS o2) AS o
CROSS APPLY (SELECT COALESCE(o.o1, 0.5e0) AS x1, COALESCE(o.o2, 0.5e0) AS x2) AS x
CROSS APPLY (SELECT x.x1 AS t1, CASE WHEN 1e0 + x.x2 = 1e0 THEN x.x2 WHEN x.x2 > -1e0 THEN LOG(1e0 + x.x2) * (x.x2 / ((1e0 + x.x2) - 1e0)) END AS t2) AS t
CROSS APPLY (SELECT (t.t1 - (0.5e0)) / 0.5e0 AS z1, (t.t2 - (0.5e0)) / 0.5e0 AS z2) AS z
OUTER APPLY (SELECT TOP (1) c.segment_id, c.segment_name, c.outlier_distance,
    d.squared_distance
FROM (VALUES
    (1, N'younger, low income', CAST(NULL AS float), 0.5e0, 0.5e0),
    (2, N'older', CAST(NULL AS float), 0.5e0, 0.5e0),
    (3, N'very high income, much older', CAST(NULL AS float), 0.5e0, 0.5e0)) AS c (segment_id, segment_name, outlier_distance, c1, c2)
CROSS APPLY (SELECT (z.z1 - c.c1) * (z.z1 - c.c1) + (z.z2 - c.c2) * (z.z2 - c.c2) AS squared_distance) AS d
WHERE d.squared_distance IS NOT NULL
ORDER BY d.squared_distance, c.segment_id) AS n
);
GO
CREATE FUNCTION sqlkmeans.[explain_customers] (@income float, @age float)
RETURNS TABLE
AS
RETURN (
WITH feature AS
(
    SELECT v.position, m.feature, v.given, COALESCE(v.given, m.fill) AS start, v.z, m.low, m.high,
        CASE WHEN m.type = N'date' THEN CAST(DATEDIFF(day, '99991231', m.reference_date) AS float)
             WHEN w.is_whole = 1 AND w.least = 0e0 AND w.most = 1e0 THEN 0e0 END AS least,
        CASE WHEN m.type = N'date' THEN CAST(DATEDIFF(day, '00010101', m.reference_date) AS float)
             WHEN w.is_whole = 1 AND w.least = 0e0 AND w.most = 1e0 THEN 1e0 END AS most,
        CASE m.transform WHEN N'log1p' THEN 1 ELSE 0 END AS is_log, m.center,
        m.scale / m.weight AS divisor,
        CASE WHEN m.type = N'date' OR w.is_whole = 1 THEN 1 ELSE 0 END AS is_whole,
        CASE WHEN m.type = N'date' THEN m.reference_date END AS reference_date,
        CASE WHEN m.type = N'category' THEN COALESCE(m.level, N'(other)') END AS level
    FROM (SELECT @income AS o1, @age AS o2) AS o
    CROSS APPLY (SELECT COALESCE(o.o1, 0.5e0) AS x1, COALESCE(o.o2, 0.5e0) AS x2) AS x
CROSS APPLY (SELECT x.x1 AS t1, CASE WHEN 1e0 + x.x2 = 1e0 THEN x.x2 WHEN x.x2 > -1e0 THEN LOG(1e0 + x.x2) * (x.x2 / ((1e0 + x.x2) - 1e0)) END AS t2) AS t
CROSS APPLY (SELECT (t.t1 - (0.5e0)) / 0.5e0 AS z1, (t.t2 - (0.5e0)) / 0.5e0 AS z2) AS z
    CROSS APPLY (VALUES (1, @income, z.z1), (2, @age, z.z2)) AS v (position, given, z)
    INNER JOIN sqlkmeans.model_feature AS m ON m.run_id = 1 AND m.position = v.position
    LEFT JOIN (
        SELECT s.position, MIN(s.[min]) AS least, MAX(s.[max]) AS most,
            MIN(CASE WHEN s.[min] = FLOOR(s.[min]) AND s.[max] = FLOOR(s.[max])
                      AND 2e0 * s.median = FLOOR(2e0 * s.median) THEN 1 ELSE 0 END) AS is_whole
        FROM sqlkmeans.segment_feature AS s
        WHERE s.run_id = 1
        GROUP BY s.position
    ) AS w ON w.position = v.position
),
centroid AS
(
    SELECT c.segment_id, c.position, c.scaled_value AS value
    FROM sqlkmeans.centroid AS c
    WHERE c.run_id = 1
),
distance AS
(
    SELECT c.segment_id, SUM((f.z - c.value) * (f.z - c.value)) AS squared
    FROM feature AS f
    INNER JOIN centroid AS c ON c.position = f.position
    GROUP BY c.segment_id
),
decided AS
(
    SELECT TOP (1) n.segment_id, n.segment_name, d.squared, o.segment_id AS runner_up_id, o.squared AS far
    FROM sqlkmeans.[assign_customers](@income, @age) AS n
    INNER JOIN distance AS d ON d.segment_id = n.segment_id
    INNER JOIN distance AS o ON o.segment_id <> n.segment_id
    ORDER BY o.squared, o.segment_id
),
compared AS
(
    SELECT f.position, f.feature, f.given, f.start, f.z, f.low, f.high, f.least, f.most, f.is_log,
        f.center, f.divisor, f.is_whole, f.reference_date, f.level, g.segment_id, g.segment_name,
        g.runner_up_id, g.squared, a.value AS own_value,
        (f.z - r.value) * (f.z - r.value) - (f.z - a.value) * (f.z - a.value) AS part
    FROM decided AS g
    CROSS JOIN feature AS f
    INNER JOIN centroid AS a ON a.segment_id = g.segment_id AND a.position = f.position
    INNER JOIN centroid AS r ON r.segment_id = g.runner_up_id AND r.position = f.position
),
nearest AS
(
    SELECT p.position, w.new_value
    FROM compared AS p
    CROSS APPLY (
        SELECT TOP (1) y.new_value
        FROM centroid AS c
        INNER JOIN distance AS d ON d.segment_id = c.segment_id
        CROSS APPLY (SELECT c.value - p.own_value AS apart) AS h
        CROSS APPLY (SELECT CASE
                WHEN ABS(h.apart) > 1e-09 * (SQRT(d.squared) + SQRT(p.squared))
                THEN (d.squared - p.squared) / (2e0 * h.apart) END AS step) AS s
        CROSS APPLY (SELECT (p.z + s.step) * p.divisor + p.center AS t,
                p.divisor * (SQRT(p.squared) + ABS(s.step)) AS far) AS b
        CROSS APPLY (SELECT
                CASE WHEN p.is_log = 0 THEN b.t
                     WHEN b.t BETWEEN -30.0e0 AND 36.0e0
                     THEN CASE WHEN EXP(b.t) = 1e0 THEN b.t
                          ELSE (EXP(b.t) - 1e0) * (b.t / LOG(EXP(b.t))) END END AS border,
                CASE WHEN p.is_log = 0 THEN b.far
                     WHEN b.t BETWEEN -30.0e0 AND 36.0e0
                     THEN b.far * EXP(b.t) END AS way) AS x
        CROSS APPLY (SELECT CASE WHEN p.is_whole = 1 THEN 0e0
                WHEN 0.001e0 * x.way + 1e-10 * ABS(x.border) > 1e-290
                THEN FLOOR(LOG10(0.001e0 * x.way + 1e-10 * ABS(x.border))) END AS power) AS e
        CROSS APPLY (SELECT POWER(10e0, CASE WHEN e.power > 0e0 THEN e.power ELSE 0e0 END) AS unit,
                POWER(10e0, CASE WHEN e.power < 0e0 THEN -e.power ELSE 0e0 END) AS parts) AS u
        CROSS APPLY (SELECT CASE p.is_whole
                WHEN 1 THEN 1e-06 * x.way + 1e-10 * ABS(x.border)
                ELSE 0.001e0 * u.unit / u.parts END AS clear) AS q
        CROSS APPLY (SELECT CASE WHEN h.apart > 0e0
                THEN (FLOOR((x.border + q.clear) / u.unit * u.parts) + 1e0) / u.parts * u.unit
                ELSE (CEILING((x.border - q.clear) / u.unit * u.parts) - 1e0) / u.parts * u.unit
                END AS new_value) AS y
        WHERE c.position = p.position AND c.segment_id <> p.segment_id AND p.level IS NULL
          AND ABS(h.apart) * 1000000.0e0 > SQRT(p.squared) + ABS(s.step)
          AND (p.is_log = 0 OR y.new_value > -1e0)
          AND (p.least IS NULL OR y.new_value BETWEEN p.least AND p.most)
          AND (p.low IS NULL OR (h.apart > 0e0 AND x.border < p.high)
               OR (h.apart < 0e0 AND x.border > p.low))
        ORDER BY ABS(y.new_value - p.start), y.new_value DESC
    ) AS w
),
proposed AS
(
    SELECT p.position, MAX(w.new_value) AS new_value,
        MAX(CASE WHEN p.position BETWEEN 1 AND 1 THEN w.new_value ELSE @income END) AS v1, MAX(CASE WHEN p.position BETWEEN 2 AND 2 THEN w.new_value ELSE @age END) AS v2
    FROM compared AS p
    LEFT JOIN nearest AS w ON w.position = p.position
    WHERE w.new_value IS NOT NULL OR (p.level IS NOT NULL AND p.given = 0e0)
    GROUP BY p.position
)
SELECT p.position, p.feature, p.segment_id, p.segment_name, p.runner_up_id,
    CASE WHEN SUM(p.part) OVER () > 0e0 THEN p.part / SUM(p.part) OVER () ELSE 0e0
        END AS contribution,
    CASE WHEN p.reference_date IS NULL THEN m.new_value END AS new_value,
    DATEADD(day, -CAST(CASE WHEN p.reference_date IS NOT NULL THEN m.new_value END AS int), p.reference_date) AS new_date,
    CASE WHEN m.segment_id IS NOT NULL THEN p.level END AS new_level,
    CASE WHEN p.reference_date IS NULL THEN m.new_value - p.given ELSE p.given - m.new_value
        END AS difference,
    m.segment_id AS new_segment_id, m.segment_name AS new_segment_name
FROM compared AS p
LEFT JOIN (
    SELECT v.position, v.new_value, n.segment_id, n.segment_name
    FROM proposed AS v
    CROSS APPLY sqlkmeans.[assign_customers](v.v1, v.v2) AS n
) AS m ON m.position = p.position AND m.segment_id <> p.segment_id
);
GO
SET @arrived = OBJECT_ID(@text);
GO
DROP VIEW IF EXISTS sqlkmeans.segment_movement;
GO
CREATE VIEW sqlkmeans.segment_movement AS
SELECT a.segmentation, a.run_id AS from_run_id, b.run_id AS to_run_id,
    m.from_segment_id, m.to_segment_id, m.customers
FROM sqlkmeans.run AS a
INNER JOIN sqlkmeans.run AS b ON b.segmentation = a.segmentation AND b.published_at > a.published_at
CROSS APPLY (
    SELECT c.from_segment_id, c.to_segment_id, COUNT_BIG(*) AS customers
    FROM (
        SELECT MAX(v.from_segment_id) AS from_segment_id, MAX(v.to_segment_id) AS to_segment_id
        FROM [dbo].[customer_segment_history] AS h
        CROSS APPLY (
            SELECT
                CASE WHEN h.valid_from <= a.published_at
                      AND (h.valid_to IS NULL OR h.valid_to > a.published_at)
                     THEN h.segment_id END AS from_segment_id,
                CASE WHEN h.valid_from <= b.published_at
                      AND (h.valid_to IS NULL OR h.valid_to > b.published_at)
                     THEN h.segment_id END AS to_segment_id
        ) AS v
        GROUP BY h.[customer_id]
    ) AS c
    WHERE c.from_segment_id IS NOT NULL OR c.to_segment_id IS NOT NULL
    GROUP BY c.from_segment_id, c.to_segment_id
) AS m
WHERE a.segmentation = N'customers' AND a.status = N'published' AND b.status = N'published';
GO
SELECT @arrived = COUNT_BIG(*) FROM (SELECT TOP (1) 1 AS one FROM [dbo].[customer_segment] WITH (TABLOCK, HOLDLOCK)) AS t;SELECT @arrived = COUNT_BIG(*) FROM (SELECT TOP (1) 1 AS one FROM [dbo].[customer_segment_history] WITH (TABLOCK, HOLDLOCK)) AS t;
GO
SET NOCOUNT ON;
CREATE TABLE #sqlkmeans_cluster_segment
    (cluster int NOT NULL PRIMARY KEY, segment_id int NOT NULL, outlier_distance float NULL);
INSERT INTO #sqlkmeans_cluster_segment (cluster, segment_id, outlier_distance)
SELECT CAST(j.[key] AS int), CAST(j.[value] AS int), o.outlier_distance
FROM OPENJSON(@text) AS j
LEFT JOIN #sqlkmeans_outlier AS o ON o.segment_id = CAST(j.[value] AS int);
-- What becomes of a customer: 0 another distance alone, 1 arrives, 2 moves, 3 departs, 4 becomes an
-- outlier or ceases to be one. A distance that would lie on the wrong side of its limit is written
-- too, though it hardly changed: later it tells who is one.
SELECT s.[customer_id], l.segment_id, s.distance, CAST(f.is_outlier AS bit) AS is_outlier,
    CASE WHEN t.segment_id IS NULL THEN 1 WHEN t.segment_id <> l.segment_id THEN 2
         WHEN t.is_outlier <> f.is_outlier THEN 4 ELSE 0 END
        AS [sqlkmeans change], t.assigned_at AS [sqlkmeans since]
INTO #sqlkmeans_change
FROM sqlkmeans.[staging_1] AS s
INNER JOIN #sqlkmeans_cluster_segment AS l ON l.cluster = s.cluster
CROSS APPLY (SELECT COALESCE(s.is_outlier,
    CASE WHEN s.distance > l.outlier_distance THEN 1 ELSE 0 END) AS is_outlier) AS f
LEFT JOIN [dbo].[customer_segment] AS t ON t.[customer_id] = s.[customer_id]
WHERE s.departed = 0
  AND (t.segment_id IS NULL
       OR t.segment_id <> l.segment_id
       OR t.is_outlier <> f.is_outlier
       OR ABS(t.distance - s.distance) > @tolerance
       OR (s.is_outlier IS NULL
           AND f.is_outlier <> CASE WHEN t.distance > l.outlier_distance THEN 1 ELSE 0 END));
INSERT INTO #sqlkmeans_change ([customer_id], segment_id, distance, is_outlier, [sqlkmeans change], [sqlkmeans since])
SELECT t.[customer_id], 0, 0, 0, 3, t.assigned_at
FROM [dbo].[customer_segment] AS t
WHERE EXISTS (SELECT 1 FROM sqlkmeans.[staging_1] AS s WHERE t.[customer_id] = s.[customer_id] AND s.departed = 1)
  AND NOT EXISTS (SELECT 1 FROM sqlkmeans.[staging_1] AS s WHERE t.[customer_id] = s.[customer_id] AND s.departed = 0);
DECLARE @ended bigint;
SELECT @arrived = COALESCE(SUM(CASE WHEN n.change = 1 THEN n.customers ELSE 0 END), 0),
    @moved = COALESCE(SUM(CASE WHEN n.change = 2 THEN n.customers ELSE 0 END), 0),
    @departed = COALESCE(SUM(CASE WHEN n.change = 3 THEN n.customers ELSE 0 END), 0),
    @ended = COALESCE(SUM(CASE WHEN n.change IN (2, 3, 4) THEN n.customers ELSE 0 END), 0),
    @written = COALESCE(SUM(n.customers), 0)
FROM (SELECT c.[sqlkmeans change] AS change, COUNT_BIG(*) AS customers
      FROM #sqlkmeans_change AS c
      GROUP BY c.[sqlkmeans change]) AS n;
-- A statement without rows could read a table to its end to find that out.
-- A label and its row of the history begin at the same time, and the history is ordered by key and
-- time: so the row is found at once, however many a customer has.
DECLARE @closed bigint = 0;
IF @ended > 0
BEGIN
UPDATE t
SET valid_to = @now
FROM [dbo].[customer_segment_history] AS t
INNER JOIN #sqlkmeans_change AS c ON t.[customer_id] = c.[customer_id] AND t.valid_from = c.[sqlkmeans since]
WHERE t.valid_to IS NULL AND c.[sqlkmeans change] IN (2, 3, 4);
SET @closed = ROWCOUNT_BIG();
END;
-- Who arrives may have a row from before somebody deleted the label, and somebody may have changed
-- a time.
IF @arrived > 0 OR @closed < @ended
UPDATE t
SET valid_to = @now
FROM [dbo].[customer_segment_history] AS t
INNER JOIN #sqlkmeans_change AS c ON t.[customer_id] = c.[customer_id]
WHERE t.valid_to IS NULL AND c.[sqlkmeans change] IN (1, 2, 3, 4);
IF @arrived + @ended > @departed
INSERT INTO [dbo].[customer_segment_history] ([customer_id], segment_id, distance, is_outlier, valid_from, valid_to, run_id)
SELECT c.[customer_id], c.segment_id, c.distance, c.is_outlier, @now, NULL, @run_id
FROM #sqlkmeans_change AS c
WHERE c.[sqlkmeans change] IN (1, 2, 4);
IF @written > 0
BEGIN
-- Under READ COMMITTED with locks, one statement could otherwise read some rows before and some
-- after the change. Where READ_COMMITTED_SNAPSHOT is on, nobody waits; where not, readers wait from
-- here on, so the history is written before.
DECLARE @any int;
SELECT TOP (1) @any = t.segment_id FROM [dbo].[customer_segment] AS t WITH (TABLOCKX, HOLDLOCK);
IF @ended > @departed
UPDATE t
SET segment_id = c.segment_id, distance = c.distance, is_outlier = c.is_outlier, run_id = @run_id,
    assigned_at = @now
FROM [dbo].[customer_segment] AS t
INNER JOIN #sqlkmeans_change AS c ON t.[customer_id] = c.[customer_id]
WHERE c.[sqlkmeans change] IN (2, 4);
IF @written > @arrived + @ended
UPDATE t
SET distance = c.distance
FROM [dbo].[customer_segment] AS t
INNER JOIN #sqlkmeans_change AS c ON t.[customer_id] = c.[customer_id]
WHERE c.[sqlkmeans change] = 0;
IF @departed > 0
DELETE t
FROM [dbo].[customer_segment] AS t
INNER JOIN #sqlkmeans_change AS c ON t.[customer_id] = c.[customer_id]
WHERE c.[sqlkmeans change] = 3;
IF @arrived > 0
INSERT INTO [dbo].[customer_segment] ([customer_id], segment_id, distance, is_outlier, run_id, assigned_at)
SELECT c.[customer_id], c.segment_id, c.distance, c.is_outlier, @run_id, @now
FROM #sqlkmeans_change AS c
WHERE c.[sqlkmeans change] = 1;
END;
DROP TABLE #sqlkmeans_change;
DROP TABLE #sqlkmeans_cluster_segment;
GO
INSERT INTO #sqlkmeans_held (segment_id, size) SELECT t.segment_id, COUNT_BIG(*) FROM [dbo].[customer_segment] AS t GROUP BY t.segment_id;
GO
ALTER TABLE #sqlkmeans_prepared ADD [customer_id] bigint NULL; ALTER TABLE #sqlkmeans_scored ADD [customer_id] bigint NULL; ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans o1] float NULL; ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans z1] float NULL; ALTER TABLE #sqlkmeans_scored ADD [sqlkmeans o1] float NULL; ALTER TABLE #sqlkmeans_centroid ADD z1 float NULL; ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans o2] float NULL; ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans z2] float NULL; ALTER TABLE #sqlkmeans_scored ADD [sqlkmeans o2] float NULL; ALTER TABLE #sqlkmeans_centroid ADD z2 float NULL;
GO
INSERT INTO #sqlkmeans_prepared WITH (TABLOCK) ([customer_id], [sqlkmeans row], [sqlkmeans previous], [sqlkmeans before], [sqlkmeans flagged], [sqlkmeans weight], [sqlkmeans o1], [sqlkmeans z1], [sqlkmeans o2], [sqlkmeans z2])
SELECT s.[customer_id], NULL, p.segment_id, p.distance, p.is_outlier, 1e0, o.o1, z.z1, o.o2, z.z2
FROM [dbo].[customer] AS s
LEFT JOIN [dbo].[customer_segment] AS p ON p.[customer_id] = s.[customer_id]
CROSS APPLY (SELECT CAST(s.[income] AS float) AS o1, CAST(s.[age] AS float) AS o2) AS o
CROSS APPLY (SELECT COALESCE(o.o1, 0.5e0) AS x1, COALESCE(o.o2, 0.5e0) AS x2) AS x
CROSS APPLY (SELECT x.x1 AS t1, CASE WHEN 1e0 + x.x2 = 1e0 THEN x.x2 WHEN x.x2 > -1e0 THEN LOG(1e0 + x.x2) * (x.x2 / ((1e0 + x.x2) - 1e0)) END AS t2) AS t
CROSS APPLY (SELECT (t.t1 - (0.5e0)) / 0.5e0 AS z1, (t.t2 - (0.5e0)) / 0.5e0 AS z2) AS z;
SET @rows = ROWCOUNT_BIG();
GO
SELECT @nulls = COALESCE(SUM(g.nulls * g.customers), 0),
    @repeats = COALESCE(SUM(CASE g.nulls WHEN 0 THEN g.customers - 1 END), 0)
FROM (SELECT COUNT_BIG(*) AS customers, CASE WHEN s.[customer_id] IS NULL THEN 1 ELSE 0 END AS nulls FROM #sqlkmeans_prepared AS s GROUP BY s.[customer_id]
      HAVING COUNT_BIG(*) > 1 OR s.[customer_id] IS NULL) AS g;
GO
DELETE FROM #sqlkmeans_centroid;
INSERT INTO #sqlkmeans_centroid (cluster, z1, z2)
SELECT p.cluster, MAX(CASE p.position WHEN 1 THEN p.scaled_value END), MAX(CASE p.position WHEN 2 THEN p.scaled_value END)
FROM #sqlkmeans_point AS p GROUP BY p.cluster;
DECLARE @c0_1 float, @c0_2 float, @c1_1 float, @c1_2 float, @c2_1 float, @c2_2 float, @c3_1 float, @c3_2 float;
SELECT @c0_1 = SUM(CASE c.cluster WHEN 0 THEN c.z1 ELSE 0e0 END), @c0_2 = SUM(CASE c.cluster WHEN 0 THEN c.z2 ELSE 0e0 END), @c1_1 = SUM(CASE c.cluster WHEN 1 THEN c.z1 ELSE 0e0 END), @c1_2 = SUM(CASE c.cluster WHEN 1 THEN c.z2 ELSE 0e0 END), @c2_1 = SUM(CASE c.cluster WHEN 2 THEN c.z1 ELSE 0e0 END), @c2_2 = SUM(CASE c.cluster WHEN 2 THEN c.z2 ELSE 0e0 END), @c3_1 = SUM(CASE c.cluster WHEN 3 THEN c.z1 ELSE 0e0 END), @c3_2 = SUM(CASE c.cluster WHEN 3 THEN c.z2 ELSE 0e0 END)
FROM #sqlkmeans_centroid AS c;
INSERT INTO #sqlkmeans_scored WITH (TABLOCK) ([customer_id], [sqlkmeans previous], [sqlkmeans before], [sqlkmeans flagged], [sqlkmeans weight], [sqlkmeans o1], [sqlkmeans o2], [sqlkmeans cluster], [sqlkmeans distance])
SELECT r.[customer_id], r.[sqlkmeans previous], r.[sqlkmeans before], r.[sqlkmeans flagged], r.[sqlkmeans weight], r.[sqlkmeans o1], r.[sqlkmeans o2], c.cluster, SQRT((r.[sqlkmeans z1] - c.z1) * (r.[sqlkmeans z1] - c.z1) + (r.[sqlkmeans z2] - c.z2) * (r.[sqlkmeans z2] - c.z2))
FROM #sqlkmeans_prepared AS r
CROSS APPLY (SELECT (r.[sqlkmeans z1] - @c1_1) * (r.[sqlkmeans z1] - @c1_1) + (r.[sqlkmeans z2] - @c1_2) * (r.[sqlkmeans z2] - @c1_2) AS d1, (r.[sqlkmeans z1] - @c2_1) * (r.[sqlkmeans z1] - @c2_1) + (r.[sqlkmeans z2] - @c2_2) * (r.[sqlkmeans z2] - @c2_2) AS d2, (r.[sqlkmeans z1] - @c3_1) * (r.[sqlkmeans z1] - @c3_1) + (r.[sqlkmeans z2] - @c3_2) * (r.[sqlkmeans z2] - @c3_2) AS d3) AS d
CROSS APPLY (SELECT CASE WHEN d.d1 <= d.d2 AND d.d1 <= d.d3 THEN 1 WHEN d.d2 <= d.d3 THEN 2 ELSE 3 END AS cluster) AS n
INNER JOIN #sqlkmeans_centroid AS c ON c.cluster = n.cluster
WHERE r.[sqlkmeans z1] IS NOT NULL AND r.[sqlkmeans z2] IS NOT NULL;
SET @rows = ROWCOUNT_BIG();
GO
SELECT s.[sqlkmeans cluster] AS cluster, s.[sqlkmeans previous] AS previous,
    COUNT_BIG(*) AS customers, SUM(s.[sqlkmeans distance]) AS distance,
    SUM(s.[sqlkmeans distance] * s.[sqlkmeans distance]) AS within_ss,
    SUM(s.[sqlkmeans weight] * s.[sqlkmeans distance] * s.[sqlkmeans distance]) AS inertia,
    SUM(s.[sqlkmeans weight]) AS weight, COUNT_BIG(s.[sqlkmeans o1]) AS n1, SUM(s.[sqlkmeans o1] - p.c1) AS s1, SUM((s.[sqlkmeans o1] - p.c1) * (s.[sqlkmeans o1] - p.c1)) AS q1, MIN(s.[sqlkmeans o1]) AS l1, MAX(s.[sqlkmeans o1]) AS h1, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_1, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_2, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_3, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_4, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_5, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_6, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_7, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_8, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_9, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] < p.cl1 THEN 1 END) AS cb1, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] < p.el1 THEN 1 END) AS eb1, COUNT_BIG(s.[sqlkmeans o2]) AS n2, SUM(s.[sqlkmeans o2] - p.c2) AS s2, SUM((s.[sqlkmeans o2] - p.c2) * (s.[sqlkmeans o2] - p.c2)) AS q2, MIN(s.[sqlkmeans o2]) AS l2, MAX(s.[sqlkmeans o2]) AS h2, COUNT_BIG(CASE WHEN s.[sqlkmeans o2] <= 0.5e0 THEN 1 END) AS e2_1, COUNT_BIG(CASE WHEN s.[sqlkmeans o2] <= 0.5e0 THEN 1 END) AS e2_2, COUNT_BIG(CASE WHEN s.[sqlkmeans o2] < p.cl2 THEN 1 END) AS cb2, COUNT_BIG(CASE WHEN s.[sqlkmeans o2] < p.el2 THEN 1 END) AS eb2
INTO #sqlkmeans_wide
 FROM #sqlkmeans_scored AS s
INNER JOIN (SELECT a.cluster, MAX(CASE a.position WHEN 1 THEN a.value END) AS c1, MAX(CASE WHEN a.position = 1 AND b.cluster > 0 THEN b.low END) AS cl1, MAX(CASE WHEN a.position = 1 AND b.cluster > 0 THEN b.high END) AS ch1, MAX(CASE WHEN a.position = 1 AND b.cluster = 0 THEN b.low END) AS el1, MAX(CASE WHEN a.position = 1 AND b.cluster = 0 THEN b.high END) AS eh1, MAX(CASE a.position WHEN 2 THEN a.value END) AS c2, MAX(CASE WHEN a.position = 2 AND b.cluster > 0 THEN b.low END) AS cl2, MAX(CASE WHEN a.position = 2 AND b.cluster > 0 THEN b.high END) AS ch2, MAX(CASE WHEN a.position = 2 AND b.cluster = 0 THEN b.low END) AS el2, MAX(CASE WHEN a.position = 2 AND b.cluster = 0 THEN b.high END) AS eh2 FROM #sqlkmeans_point AS a
            LEFT JOIN #sqlkmeans_bracket AS b
                ON b.position = a.position AND b.cluster IN (0, a.cluster)
            GROUP BY a.cluster) AS p
    ON p.cluster = s.[sqlkmeans cluster]
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
      CROSS APPLY (VALUES (1, w.n1, w.s1, w.q1, w.l1, w.h1), (2, w.n2, w.s2, w.q2, w.l2, w.h2)) AS v (position, known, total, squares, lowest, highest)
      GROUP BY w.cluster, v.position) AS m
INNER JOIN #sqlkmeans_point AS p ON p.cluster = m.cluster AND p.position = m.position;
UPDATE e
SET customers = n.customers
FROM #sqlkmeans_edge AS e
INNER JOIN (SELECT v.position, v.number, SUM(v.customers) AS customers
            FROM #sqlkmeans_wide AS w
            CROSS APPLY (VALUES (1, 1, w.e1_1), (1, 2, w.e1_2), (1, 3, w.e1_3), (1, 4, w.e1_4), (1, 5, w.e1_5), (1, 6, w.e1_6), (1, 7, w.e1_7), (1, 8, w.e1_8), (1, 9, w.e1_9), (2, 1, w.e2_1), (2, 2, w.e2_2)) AS v (position, number, customers)
            GROUP BY v.position, v.number) AS n
    ON n.position = e.position AND n.number = e.number;
UPDATE b
SET below = n.customers
FROM #sqlkmeans_bracket AS b
INNER JOIN (SELECT v.cluster, v.position, SUM(v.customers) AS customers
            FROM #sqlkmeans_wide AS w
            CROSS APPLY (VALUES (w.cluster, 1, w.cb1), (0, 1, w.eb1), (w.cluster, 2, w.cb2), (0, 2, w.eb2)) AS v (cluster, position, customers)
            GROUP BY v.cluster, v.position) AS n
    ON n.cluster = b.cluster AND n.position = b.position;
INSERT INTO #sqlkmeans_near (cluster, position, value, customers)
SELECT v.cluster, v.position, v.value, COUNT_BIG(*)
 FROM #sqlkmeans_scored AS s
INNER JOIN (SELECT a.cluster, MAX(CASE a.position WHEN 1 THEN a.value END) AS c1, MAX(CASE WHEN a.position = 1 AND b.cluster > 0 THEN b.low END) AS cl1, MAX(CASE WHEN a.position = 1 AND b.cluster > 0 THEN b.high END) AS ch1, MAX(CASE WHEN a.position = 1 AND b.cluster = 0 THEN b.low END) AS el1, MAX(CASE WHEN a.position = 1 AND b.cluster = 0 THEN b.high END) AS eh1, MAX(CASE a.position WHEN 2 THEN a.value END) AS c2, MAX(CASE WHEN a.position = 2 AND b.cluster > 0 THEN b.low END) AS cl2, MAX(CASE WHEN a.position = 2 AND b.cluster > 0 THEN b.high END) AS ch2, MAX(CASE WHEN a.position = 2 AND b.cluster = 0 THEN b.low END) AS el2, MAX(CASE WHEN a.position = 2 AND b.cluster = 0 THEN b.high END) AS eh2 FROM #sqlkmeans_point AS a
            LEFT JOIN #sqlkmeans_bracket AS b
                ON b.position = a.position AND b.cluster IN (0, a.cluster)
            GROUP BY a.cluster) AS p
    ON p.cluster = s.[sqlkmeans cluster]
CROSS APPLY (VALUES (s.[sqlkmeans cluster], 1, s.[sqlkmeans o1], p.cl1, p.ch1), (0, 1, s.[sqlkmeans o1], p.el1, p.eh1), (s.[sqlkmeans cluster], 2, s.[sqlkmeans o2], p.cl2, p.ch2), (0, 2, s.[sqlkmeans o2], p.el2, p.eh2)) AS v (cluster, position, value, low, high)
WHERE (s.[sqlkmeans o1] BETWEEN p.cl1 AND p.ch1 OR s.[sqlkmeans o1] BETWEEN p.el1 AND p.eh1 OR s.[sqlkmeans o2] BETWEEN p.cl2 AND p.ch2 OR s.[sqlkmeans o2] BETWEEN p.el2 AND p.eh2) AND v.value BETWEEN v.low AND v.high
GROUP BY v.cluster, v.position, v.value;
DROP TABLE #sqlkmeans_wide;
GO
INSERT INTO #sqlkmeans_near (cluster, position, value, customers)
SELECT g.cluster, @position, g.value, COUNT_BIG(*)
FROM #sqlkmeans_scored AS s
CROSS APPLY (VALUES (0, s.[sqlkmeans o1]), (s.[sqlkmeans cluster], s.[sqlkmeans o1])) AS g (cluster, value)
WHERE g.value IS NOT NULL
GROUP BY g.cluster, g.value;
GO
INSERT INTO #sqlkmeans_near (cluster, position, value, customers)
SELECT g.cluster, @position, g.value, COUNT_BIG(*)
FROM #sqlkmeans_scored AS s
CROSS APPLY (VALUES (0, s.[sqlkmeans o2]), (s.[sqlkmeans cluster], s.[sqlkmeans o2])) AS g (cluster, value)
WHERE g.value IS NOT NULL
GROUP BY g.cluster, g.value;
GO
INSERT INTO sqlkmeans.[staging_1] WITH (TABLOCK) ([customer_id], cluster, distance)
SELECT s.[customer_id], s.segment_id, s.distance
FROM (SELECT s.[customer_id], c.segment_id,
    s.[sqlkmeans distance] AS distance, s.[sqlkmeans previous], s.[sqlkmeans before], s.[sqlkmeans flagged]
FROM #sqlkmeans_scored AS s
INNER JOIN #sqlkmeans_cluster AS c ON c.cluster = s.[sqlkmeans cluster]) AS s
LEFT JOIN #sqlkmeans_limit AS o ON o.segment_id = s.segment_id
CROSS APPLY (SELECT CASE WHEN s.distance > o.outlier_distance THEN 1 ELSE 0 END AS is_outlier) AS f
WHERE s.[sqlkmeans previous] IS NULL OR s.[sqlkmeans previous] <> s.segment_id
   OR ABS(s.distance - s.[sqlkmeans before]) > @tolerance OR f.is_outlier <> s.[sqlkmeans flagged]
   OR f.is_outlier <> CASE WHEN s.[sqlkmeans before] > o.outlier_distance THEN 1 ELSE 0 END;
SET @staged = ROWCOUNT_BIG();
GO
SELECT @published = COUNT_BIG(*) FROM [dbo].[customer_segment] AS t;
GO
ALTER TABLE #sqlkmeans_input ADD [customer_id] bigint NULL; ALTER TABLE #sqlkmeans_input ADD [sqlkmeans f1] float NULL; ALTER TABLE #sqlkmeans_input ADD [sqlkmeans f2] float NULL;
GO
INSERT INTO #sqlkmeans_input WITH (TABLOCK) ([sqlkmeans row], [sqlkmeans place], [customer_id], [sqlkmeans previous], [sqlkmeans before], [sqlkmeans flagged], [sqlkmeans weight], [sqlkmeans f1], [sqlkmeans f2]) SELECT ROW_NUMBER() OVER (ORDER BY s.[customer_id]), DENSE_RANK() OVER (ORDER BY s.[customer_id]), s.[customer_id], p.segment_id, p.distance, p.is_outlier, 1e0, CAST(s.[income] AS float), CAST(s.[age] AS float) FROM [dbo].[customer] AS s LEFT JOIN [dbo].[customer_segment] AS p ON p.[customer_id] = s.[customer_id]; SET @total = ROWCOUNT_BIG();
GO
SELECT @nulls = COALESCE(SUM(g.nulls * g.customers), 0),
    @repeats = COALESCE(SUM(CASE g.nulls WHEN 0 THEN g.customers - 1 END), 0)
FROM (SELECT COUNT_BIG(*) AS customers, CASE WHEN s.[customer_id] IS NULL THEN 1 ELSE 0 END AS nulls FROM #sqlkmeans_input AS s GROUP BY s.[customer_id]
      HAVING COUNT_BIG(*) > 1 OR s.[customer_id] IS NULL) AS g;
GO
DECLARE @publication nvarchar(max);
DECLARE @language nvarchar(128) = COALESCE(JSON_VALUE(@text, '$.definition.language'), N'Python');
INSERT INTO #sqlkmeans_label (row_number, cluster, distance)
EXECUTE sys.sp_execute_external_script
    @language = @language,
    @script = N'
from sqlkmeans.external_script import run_segmentation
OutputDataSet, publication = run_segmentation(InputDataSet, job)
',
    @input_data_1 = N'SELECT [sqlkmeans row] AS row_number, [sqlkmeans previous] AS previous_segment_id, [sqlkmeans f1] AS f1, [sqlkmeans f2] AS f2 FROM #sqlkmeans_input',
    @params = N'@job nvarchar(max), @publication nvarchar(max) OUTPUT',
    @job = @text,
    @publication = @publication OUTPUT;
INSERT INTO #sqlkmeans_publication (content) VALUES (@publication);
GO
SELECT COUNT_BIG(*) AS total, COUNT_BIG(t.fit) AS fitted, COUNT_BIG(t.whole) AS kept,
    SUM(CASE t.fit WHEN 1 THEN t.w END) AS weight, SUM(CASE t.fit WHEN 1 THEN t.w * t.w END) AS squares,
    COUNT_BIG(CASE WHEN t.w IS NULL OR t.w < 0e0 THEN 1 END) AS absent,
    COUNT_BIG(CASE WHEN i.[customer_id] IS NULL THEN 1 END)
        + COUNT_BIG(*) - COALESCE(MAX(i.[sqlkmeans place]), 0) AS unkeyed, COUNT_BIG(i.[sqlkmeans f1]) AS a1, COUNT_BIG(CASE t.fit WHEN 1 THEN i.[sqlkmeans f1] END) AS k1,
    MIN(CASE t.fit WHEN 1 THEN i.[sqlkmeans f1] END) AS l1, MAX(CASE t.fit WHEN 1 THEN i.[sqlkmeans f1] END) AS h1,
    COUNT_BIG(CASE WHEN t.fit = 1 AND i.[sqlkmeans f1] <> FLOOR(i.[sqlkmeans f1]) THEN 1 END) AS p1,
    COUNT_BIG(CASE WHEN t.whole = 1 AND i.[sqlkmeans f1] <= -1e0 THEN 1 END) AS u1,
    SUM(CASE WHEN t.fit = 1 AND i.[sqlkmeans f1] IS NOT NULL THEN t.w END) AS w1,
    SUM(CASE WHEN t.fit = 1 AND i.[sqlkmeans f1] IS NOT NULL THEN t.w * t.w END) AS v1,
    SUM(CASE t.fit WHEN 1 THEN t.w * i.[sqlkmeans f1] END) AS m1, COUNT_BIG(i.[sqlkmeans f2]) AS a2, COUNT_BIG(CASE t.fit WHEN 1 THEN i.[sqlkmeans f2] END) AS k2,
    MIN(CASE t.fit WHEN 1 THEN i.[sqlkmeans f2] END) AS l2, MAX(CASE t.fit WHEN 1 THEN i.[sqlkmeans f2] END) AS h2,
    COUNT_BIG(CASE WHEN t.fit = 1 AND i.[sqlkmeans f2] <> FLOOR(i.[sqlkmeans f2]) THEN 1 END) AS p2,
    COUNT_BIG(CASE WHEN t.whole = 1 AND i.[sqlkmeans f2] <= -1e0 THEN 1 END) AS u2,
    SUM(CASE WHEN t.fit = 1 AND i.[sqlkmeans f2] IS NOT NULL THEN t.w END) AS w2,
    SUM(CASE WHEN t.fit = 1 AND i.[sqlkmeans f2] IS NOT NULL THEN t.w * t.w END) AS v2,
    SUM(CASE t.fit WHEN 1 THEN t.w * i.[sqlkmeans f2] END) AS m2
INTO #sqlkmeans_sums
FROM #sqlkmeans_input AS i
CROSS APPLY (SELECT i.[sqlkmeans weight] AS w, CASE WHEN 1 = 1 THEN 1 END AS whole,
                 CASE WHEN i.[sqlkmeans weight] > 0e0 THEN 1 END AS fit) AS t;
UPDATE c
SET absent = s.total - v.held, known = v.known, least = v.least, greatest = v.greatest,
    fractions = v.fractions, floors = v.floors, weights = v.weights, squares = v.squares,
    mean = v.total / NULLIF(v.weights, 0e0)
FROM #sqlkmeans_column AS c
CROSS JOIN #sqlkmeans_sums AS s
CROSS APPLY (VALUES (@number + 1, s.a1, s.k1, s.l1, s.h1, s.p1, s.u1, s.w1, s.v1, s.m1), (@number + 2, s.a2, s.k2, s.l2, s.h2, s.p2, s.u2, s.w2, s.v2, s.m2)) AS v (number, held, known, least, greatest, fractions, floors, weights, squares, total)
WHERE v.number = c.number;
SELECT @total = s.total, @fitted = s.fitted, @kept = s.kept, @weight = s.weight, @squares = s.squares,
    @absent = s.absent, @unkeyed = s.unkeyed
FROM #sqlkmeans_sums AS s;
DROP TABLE #sqlkmeans_sums;
GO
UPDATE c
SET center = c.origin + v.rest, scale = CASE WHEN v.squares > v.rest * v.rest
    THEN SQRT(v.squares - v.rest * v.rest) ELSE 0e0 END
FROM #sqlkmeans_column AS c
CROSS JOIN (SELECT SUM(t.w * (t.x1 - (0.5e0))) / SUM(t.w) AS m1, SUM(t.w * (t.x1 - (0.5e0)) * (t.x1 - (0.5e0))) / SUM(t.w) AS q1, SUM(t.w * (CASE WHEN 1e0 + t.x2 = 1e0 THEN t.x2 WHEN t.x2 > -1e0 THEN LOG(1e0 + t.x2) * (t.x2 / ((1e0 + t.x2) - 1e0)) END - (0.5e0))) / SUM(t.w) AS m2, SUM(t.w * (CASE WHEN 1e0 + t.x2 = 1e0 THEN t.x2 WHEN t.x2 > -1e0 THEN LOG(1e0 + t.x2) * (t.x2 / ((1e0 + t.x2) - 1e0)) END - (0.5e0)) * (CASE WHEN 1e0 + t.x2 = 1e0 THEN t.x2 WHEN t.x2 > -1e0 THEN LOG(1e0 + t.x2) * (t.x2 / ((1e0 + t.x2) - 1e0)) END - (0.5e0))) / SUM(t.w) AS q2
            FROM #sqlkmeans_input AS i
            CROSS APPLY (SELECT i.[sqlkmeans weight] AS w, COALESCE(i.[sqlkmeans f1], 0.5e0) AS x1, COALESCE(i.[sqlkmeans f2], 0.5e0) AS x2) AS t
            WHERE i.[sqlkmeans weight] > 0e0) AS s
CROSS APPLY (VALUES (@number + 1, s.m1, s.q1), (@number + 2, s.m2, s.q2)) AS v (number, rest, squares)
WHERE v.number = c.number;
GO
INSERT INTO #sqlkmeans_prepared WITH (TABLOCK) ([customer_id], [sqlkmeans row], [sqlkmeans previous], [sqlkmeans before], [sqlkmeans flagged], [sqlkmeans weight], [sqlkmeans o1], [sqlkmeans z1], [sqlkmeans o2], [sqlkmeans z2])
SELECT i.[customer_id], i.[sqlkmeans row], i.[sqlkmeans previous], i.[sqlkmeans before], i.[sqlkmeans flagged], i.[sqlkmeans weight], o.o1, z.z1, o.o2, z.z2
FROM #sqlkmeans_input AS i
CROSS APPLY (SELECT i.[sqlkmeans f1] AS [income], i.[sqlkmeans f2] AS [age]) AS s
CROSS APPLY (SELECT CAST(s.[income] AS float) AS o1, CAST(s.[age] AS float) AS o2) AS o
CROSS APPLY (SELECT COALESCE(o.o1, 0.5e0) AS x1, COALESCE(o.o2, 0.5e0) AS x2) AS x
CROSS APPLY (SELECT x.x1 AS t1, CASE WHEN 1e0 + x.x2 = 1e0 THEN x.x2 WHEN x.x2 > -1e0 THEN LOG(1e0 + x.x2) * (x.x2 / ((1e0 + x.x2) - 1e0)) END AS t2) AS t
CROSS APPLY (SELECT (t.t1 - (0.5e0)) / 0.5e0 AS z1, (t.t2 - (0.5e0)) / 0.5e0 AS z2) AS z;
SET @rows = ROWCOUNT_BIG();
GO
ALTER TABLE #sqlkmeans_seed ADD [sqlkmeans z1] float NULL; ALTER TABLE #sqlkmeans_sample ADD [sqlkmeans o1] float NULL; ALTER TABLE #sqlkmeans_sample ADD [sqlkmeans z1] float NULL; ALTER TABLE #sqlkmeans_border ADD [sqlkmeans z1] float NULL; ALTER TABLE #sqlkmeans_moved ADD z1 float NULL; ALTER TABLE #sqlkmeans_seed ADD [sqlkmeans z2] float NULL; ALTER TABLE #sqlkmeans_sample ADD [sqlkmeans o2] float NULL; ALTER TABLE #sqlkmeans_sample ADD [sqlkmeans z2] float NULL; ALTER TABLE #sqlkmeans_border ADD [sqlkmeans z2] float NULL; ALTER TABLE #sqlkmeans_moved ADD z2 float NULL;
GO
INSERT INTO #sqlkmeans_sample ([sqlkmeans row], [sqlkmeans weight], place, [sqlkmeans z1], [sqlkmeans z2], [sqlkmeans o1], [sqlkmeans o2])
SELECT h.[sqlkmeans row], h.[sqlkmeans weight], ROW_NUMBER() OVER (ORDER BY
    CASE WHEN h.[sqlkmeans weight] > 0e0 THEN 0 ELSE 1 END, h.[sqlkmeans hash]), [sqlkmeans z1], [sqlkmeans z2], [sqlkmeans o1], [sqlkmeans o2]
FROM (SELECT r.*, f.fourth * n.number % 2147483647 AS [sqlkmeans hash]
      FROM #sqlkmeans_prepared AS r
      CROSS APPLY (SELECT (r.[sqlkmeans row] + (@seed + 1) * 48271) % 2147483647 AS number) AS n
      CROSS APPLY (SELECT n.number * n.number % 2147483647 AS square) AS s
      CROSS APPLY (SELECT s.square * s.square % 2147483647 AS fourth) AS f) AS h
WHERE @share >= 1e0 OR h.[sqlkmeans hash] < @share * 2147483647e0;
INSERT INTO #sqlkmeans_seed ([sqlkmeans row], [sqlkmeans weight], [sqlkmeans z1], [sqlkmeans z2])
SELECT [sqlkmeans row], [sqlkmeans weight], [sqlkmeans z1], [sqlkmeans z2]
FROM #sqlkmeans_sample
WHERE [sqlkmeans weight] > 0e0 AND place <= @seed_rows;
SELECT @differing = COUNT(*) FROM (SELECT DISTINCT TOP (@k) [sqlkmeans z1], [sqlkmeans z2] FROM #sqlkmeans_seed) AS d;
IF @differing < @k
BEGIN
    INSERT INTO #sqlkmeans_seed ([sqlkmeans row], [sqlkmeans weight], [sqlkmeans z1], [sqlkmeans z2])
    SELECT TOP (@k) -ROW_NUMBER() OVER (ORDER BY MIN([sqlkmeans row])), 1e0, [sqlkmeans z1], [sqlkmeans z2]
    FROM #sqlkmeans_prepared
    WHERE [sqlkmeans weight] > 0e0
    GROUP BY [sqlkmeans z1], [sqlkmeans z2]
    ORDER BY MIN([sqlkmeans row]);
    SET @differing = ROWCOUNT_BIG();
END;
INSERT INTO #sqlkmeans_centroid (cluster, z1, z2)
SELECT 0, AVG([sqlkmeans z1]), AVG([sqlkmeans z2]) FROM #sqlkmeans_seed OPTION (MAXDOP 1);
SELECT @threshold = 0.5e0 * (AVG((s.[sqlkmeans z1] - c.z1) * (s.[sqlkmeans z1] - c.z1)) + AVG((s.[sqlkmeans z2] - c.z2) * (s.[sqlkmeans z2] - c.z2))) / 2
FROM #sqlkmeans_seed AS s CROSS JOIN #sqlkmeans_centroid AS c OPTION (MAXDOP 1);
GO
DECLARE @shift float;
DECLARE @inertia float;
DECLARE @least float;
DECLARE @start int = 1;
DECLARE @cluster int;
DECLARE @row int;
DECLARE @passes int;
DECLARE @message nvarchar(400);
WHILE @start <= @n_init + 1
BEGIN
DELETE FROM #sqlkmeans_centroid WHERE cluster > 0;
UPDATE #sqlkmeans_centroid SET cluster = -cluster WHERE cluster < 0 AND @start > @n_init;
UPDATE #sqlkmeans_seed SET closest = 1e0;
SELECT @cluster = 1, @passes = 0, @shift = NULL;
WHILE @cluster <= @k AND @start <= @n_init
BEGIN
    SET @row = NULL;
    DELETE FROM #sqlkmeans_draw;
    INSERT INTO #sqlkmeans_draw (number)
    SELECT CAST(SUBSTRING(HASHBYTES('SHA2_256', CONCAT(@seed, N'|', @start, N'|', @cluster, N'|', t.trial)), 1, 6)
        AS bigint) / 281474976710656e0
    FROM (VALUES (1), (2), (3)) AS t (trial)
    WHERE @cluster > 1 OR t.trial = 1;
    SELECT TOP (1) @row = g.row_number
    FROM (SELECT c.row_number, SUM(s.[sqlkmeans weight] * CASE WHEN (s.[sqlkmeans z1] - c.z1) * (s.[sqlkmeans z1] - c.z1) + (s.[sqlkmeans z2] - c.z2) * (s.[sqlkmeans z2] - c.z2) < s.closest OR @cluster = 1
                                                               THEN (s.[sqlkmeans z1] - c.z1) * (s.[sqlkmeans z1] - c.z1) + (s.[sqlkmeans z2] - c.z2) * (s.[sqlkmeans z2] - c.z2) ELSE s.closest END)
              AS potential
          FROM #sqlkmeans_seed AS s
          CROSS JOIN (SELECT DISTINCT u.row_number, z1, z2
                      FROM #sqlkmeans_draw AS d
                      CROSS JOIN (SELECT SUM(s.[sqlkmeans weight] * s.closest) AS total FROM #sqlkmeans_seed AS s) AS w
                      INNER JOIN (SELECT s.[sqlkmeans row] AS row_number, s.[sqlkmeans z1] AS z1, s.[sqlkmeans z2] AS z2,
                                      s.[sqlkmeans weight] * s.closest AS chance,
                                      SUM(s.[sqlkmeans weight] * s.closest) OVER (
                                          ORDER BY s.[sqlkmeans row] ROWS UNBOUNDED PRECEDING) AS upto
                                  FROM #sqlkmeans_seed AS s) AS u
                          ON u.chance > 0e0 AND d.number * w.total >= u.upto - u.chance AND d.number * w.total < u.upto) AS c
          GROUP BY c.row_number) AS g
    ORDER BY g.potential, g.row_number
    OPTION (MAXDOP 1, KEEPFIXED PLAN);
    IF @row IS NULL
        SELECT TOP (1) @row = s.[sqlkmeans row]
        FROM #sqlkmeans_seed AS s
        WHERE s.[sqlkmeans weight] > 0e0
        ORDER BY s.closest DESC, s.[sqlkmeans row];
    INSERT INTO #sqlkmeans_centroid (cluster, z1, z2)
    SELECT @cluster, [sqlkmeans z1], [sqlkmeans z2] FROM #sqlkmeans_seed WHERE [sqlkmeans row] = @row;
    UPDATE s
    SET closest = (s.[sqlkmeans z1] - c.z1) * (s.[sqlkmeans z1] - c.z1) + (s.[sqlkmeans z2] - c.z2) * (s.[sqlkmeans z2] - c.z2)
    FROM #sqlkmeans_seed AS s
    INNER JOIN #sqlkmeans_centroid AS c ON c.cluster = @cluster
    WHERE s.closest > (s.[sqlkmeans z1] - c.z1) * (s.[sqlkmeans z1] - c.z1) + (s.[sqlkmeans z2] - c.z2) * (s.[sqlkmeans z2] - c.z2) OR @cluster = 1
    OPTION (KEEPFIXED PLAN);
    SET @cluster = @cluster + 1;
END;
WHILE @passes < @most AND (@shift IS NULL OR @shift > CASE WHEN @start > @n_init THEN 1e0 ELSE 1e1 END * @threshold)
BEGIN
DECLARE @c0_1 float, @c0_2 float, @c1_1 float, @c1_2 float, @c2_1 float, @c2_2 float, @c3_1 float, @c3_2 float;
SELECT @c0_1 = SUM(CASE c.cluster WHEN 0 THEN c.z1 ELSE 0e0 END), @c0_2 = SUM(CASE c.cluster WHEN 0 THEN c.z2 ELSE 0e0 END), @c1_1 = SUM(CASE c.cluster WHEN 1 THEN c.z1 ELSE 0e0 END), @c1_2 = SUM(CASE c.cluster WHEN 1 THEN c.z2 ELSE 0e0 END), @c2_1 = SUM(CASE c.cluster WHEN 2 THEN c.z1 ELSE 0e0 END), @c2_2 = SUM(CASE c.cluster WHEN 2 THEN c.z2 ELSE 0e0 END), @c3_1 = SUM(CASE c.cluster WHEN 3 THEN c.z1 ELSE 0e0 END), @c3_2 = SUM(CASE c.cluster WHEN 3 THEN c.z2 ELSE 0e0 END)
FROM #sqlkmeans_centroid AS c;
DELETE FROM #sqlkmeans_moved WHERE kept = 0;
INSERT INTO #sqlkmeans_moved (kept, cluster, previous, customers, weight, squares, z1, z2)
SELECT 0, n.cluster, r.[sqlkmeans previous], COUNT_BIG(*), SUM(r.[sqlkmeans weight]), SUM(r.[sqlkmeans weight] * ((r.[sqlkmeans z1] - @c0_1) * (r.[sqlkmeans z1] - @c0_1) + (r.[sqlkmeans z2] - @c0_2) * (r.[sqlkmeans z2] - @c0_2))),
    SUM(r.[sqlkmeans weight] * (r.[sqlkmeans z1] - @c0_1)), SUM(r.[sqlkmeans weight] * (r.[sqlkmeans z2] - @c0_2))
FROM #sqlkmeans_seed AS r
CROSS APPLY (SELECT (r.[sqlkmeans z1] - @c1_1) * (r.[sqlkmeans z1] - @c1_1) + (r.[sqlkmeans z2] - @c1_2) * (r.[sqlkmeans z2] - @c1_2) AS d1, (r.[sqlkmeans z1] - @c2_1) * (r.[sqlkmeans z1] - @c2_1) + (r.[sqlkmeans z2] - @c2_2) * (r.[sqlkmeans z2] - @c2_2) AS d2, (r.[sqlkmeans z1] - @c3_1) * (r.[sqlkmeans z1] - @c3_1) + (r.[sqlkmeans z2] - @c3_2) * (r.[sqlkmeans z2] - @c3_2) AS d3) AS d
CROSS APPLY (SELECT CASE WHEN d.d1 <= d.d2 AND d.d1 <= d.d3 THEN 1 WHEN d.d2 <= d.d3 THEN 2 ELSE 3 END AS cluster) AS n
GROUP BY n.cluster, r.[sqlkmeans previous]
OPTION (MAXDOP 1, KEEPFIXED PLAN);
SELECT @shift = SUM((m.z1 - (c.z1 - @c0_1)) * (m.z1 - (c.z1 - @c0_1)) + (m.z2 - (c.z2 - @c0_2)) * (m.z2 - (c.z2 - @c0_2))),
    @inertia = SUM(m.squares + m.weight * ((c.z1 - @c0_1) * (c.z1 - @c0_1 - 2e0 * m.z1) + (c.z2 - @c0_2) * (c.z2 - @c0_2 - 2e0 * m.z2)))
FROM (SELECT a.cluster, SUM(a.weight) AS weight, SUM(a.squares) AS squares, SUM(a.z1) / NULLIF(SUM(a.weight), 0e0) AS z1, SUM(a.z2) / NULLIF(SUM(a.weight), 0e0) AS z2
      FROM #sqlkmeans_moved AS a
      GROUP BY a.cluster
      HAVING SUM(a.weight) > 1e-12 * MAX(a.weight)) AS m
INNER JOIN #sqlkmeans_centroid AS c ON c.cluster = m.cluster;
UPDATE c
SET z1 = @c0_1 + m.z1, z2 = @c0_2 + m.z2
FROM #sqlkmeans_centroid AS c
INNER JOIN (SELECT a.cluster, SUM(a.weight) AS weight, SUM(a.squares) AS squares, SUM(a.z1) / NULLIF(SUM(a.weight), 0e0) AS z1, SUM(a.z2) / NULLIF(SUM(a.weight), 0e0) AS z2
      FROM #sqlkmeans_moved AS a
      GROUP BY a.cluster
      HAVING SUM(a.weight) > 1e-12 * MAX(a.weight)) AS m ON m.cluster = c.cluster;
IF @@ROWCOUNT < @k
BEGIN
    SET @shift = NULL;
    UPDATE c
    SET z1 = f.z1, z2 = f.z2
    FROM #sqlkmeans_centroid AS c
    INNER JOIN (SELECT o.cluster, ROW_NUMBER() OVER (ORDER BY o.cluster) AS place
                FROM #sqlkmeans_centroid AS o
                WHERE o.cluster > 0 AND NOT EXISTS (SELECT 1 FROM (SELECT a.cluster, SUM(a.weight) AS weight, SUM(a.squares) AS squares, SUM(a.z1) / NULLIF(SUM(a.weight), 0e0) AS z1, SUM(a.z2) / NULLIF(SUM(a.weight), 0e0) AS z2
      FROM #sqlkmeans_moved AS a
      GROUP BY a.cluster
      HAVING SUM(a.weight) > 1e-12 * MAX(a.weight)) AS m WHERE m.cluster = o.cluster)) AS e
        ON e.cluster = c.cluster
    INNER JOIN (SELECT d.z1, d.z2,
                    ROW_NUMBER() OVER (ORDER BY d.squared DESC, d.row_number) AS place
                FROM (SELECT r.[sqlkmeans z1] AS z1, r.[sqlkmeans z2] AS z2, r.[sqlkmeans row] AS row_number, n.squared
                      FROM #sqlkmeans_seed AS r
                      CROSS APPLY (SELECT TOP (1) (r.[sqlkmeans z1] - o.z1) * (r.[sqlkmeans z1] - o.z1) + (r.[sqlkmeans z2] - o.z2) * (r.[sqlkmeans z2] - o.z2) AS squared
                                   FROM #sqlkmeans_centroid AS o
                                   WHERE o.cluster > 0
                                   ORDER BY squared) AS n
                      WHERE r.[sqlkmeans weight] > 0e0) AS d) AS f
        ON f.place = e.place;
END;
    SET @passes = @passes + 1;
END;
IF @start > @n_init
    SET @n_iter = @n_iter + @passes;
ELSE IF @least IS NULL OR @inertia < @least
BEGIN
    SELECT @least = @inertia, @n_iter = @passes;
    DELETE FROM #sqlkmeans_centroid WHERE cluster < 0;
    INSERT INTO #sqlkmeans_centroid (cluster, z1, z2)
    SELECT -cluster, z1, z2 FROM #sqlkmeans_centroid WHERE cluster > 0;
END;
SET @message = N'run ' + CAST(@run_id AS nvarchar(20)) + N': ' + CASE WHEN @start > @n_init THEN N'the best start'
    ELSE N'start ' + CAST(@start AS nvarchar(10)) + N' of ' + CAST(@n_init AS nvarchar(10)) END
    + N', ' + CAST(@passes AS nvarchar(10)) + N' passes over the sample';
RAISERROR (@message, 0, 1) WITH NOWAIT;
SET @start = @start + 1;
END;
GO
SET @passes = 1;
DECLARE @c0_1 float, @c0_2 float, @c1_1 float, @c1_2 float, @c2_1 float, @c2_2 float, @c3_1 float, @c3_2 float;
SELECT @c0_1 = SUM(CASE c.cluster WHEN 0 THEN c.z1 ELSE 0e0 END), @c0_2 = SUM(CASE c.cluster WHEN 0 THEN c.z2 ELSE 0e0 END), @c1_1 = SUM(CASE c.cluster WHEN 1 THEN c.z1 ELSE 0e0 END), @c1_2 = SUM(CASE c.cluster WHEN 1 THEN c.z2 ELSE 0e0 END), @c2_1 = SUM(CASE c.cluster WHEN 2 THEN c.z1 ELSE 0e0 END), @c2_2 = SUM(CASE c.cluster WHEN 2 THEN c.z2 ELSE 0e0 END), @c3_1 = SUM(CASE c.cluster WHEN 3 THEN c.z1 ELSE 0e0 END), @c3_2 = SUM(CASE c.cluster WHEN 3 THEN c.z2 ELSE 0e0 END)
FROM #sqlkmeans_centroid AS c;
DELETE FROM #sqlkmeans_moved WHERE kept = 0;
INSERT INTO #sqlkmeans_moved (kept, cluster, previous, customers, weight, squares, z1, z2)
SELECT 0, n.cluster, r.[sqlkmeans previous], COUNT_BIG(*), SUM(r.[sqlkmeans weight]), SUM(r.[sqlkmeans weight] * ((r.[sqlkmeans z1] - @c0_1) * (r.[sqlkmeans z1] - @c0_1) + (r.[sqlkmeans z2] - @c0_2) * (r.[sqlkmeans z2] - @c0_2))),
    SUM(r.[sqlkmeans weight] * (r.[sqlkmeans z1] - @c0_1)), SUM(r.[sqlkmeans weight] * (r.[sqlkmeans z2] - @c0_2))
FROM #sqlkmeans_prepared AS r
CROSS APPLY (SELECT (r.[sqlkmeans z1] - @c1_1) * (r.[sqlkmeans z1] - @c1_1) + (r.[sqlkmeans z2] - @c1_2) * (r.[sqlkmeans z2] - @c1_2) AS d1, (r.[sqlkmeans z1] - @c2_1) * (r.[sqlkmeans z1] - @c2_1) + (r.[sqlkmeans z2] - @c2_2) * (r.[sqlkmeans z2] - @c2_2) AS d2, (r.[sqlkmeans z1] - @c3_1) * (r.[sqlkmeans z1] - @c3_1) + (r.[sqlkmeans z2] - @c3_2) * (r.[sqlkmeans z2] - @c3_2) AS d3) AS d
CROSS APPLY (SELECT CASE WHEN d.d1 <= d.d2 AND d.d1 <= d.d3 THEN 1 WHEN d.d2 <= d.d3 THEN 2 ELSE 3 END AS cluster) AS n
GROUP BY n.cluster, r.[sqlkmeans previous];
SELECT @shift = SUM((m.z1 - (c.z1 - @c0_1)) * (m.z1 - (c.z1 - @c0_1)) + (m.z2 - (c.z2 - @c0_2)) * (m.z2 - (c.z2 - @c0_2))),
    @inertia = SUM(m.squares + m.weight * ((c.z1 - @c0_1) * (c.z1 - @c0_1 - 2e0 * m.z1) + (c.z2 - @c0_2) * (c.z2 - @c0_2 - 2e0 * m.z2)))
FROM (SELECT a.cluster, SUM(a.weight) AS weight, SUM(a.squares) AS squares, SUM(a.z1) / NULLIF(SUM(a.weight), 0e0) AS z1, SUM(a.z2) / NULLIF(SUM(a.weight), 0e0) AS z2
      FROM #sqlkmeans_moved AS a
      GROUP BY a.cluster
      HAVING SUM(a.weight) > 1e-12 * MAX(a.weight)) AS m
INNER JOIN #sqlkmeans_centroid AS c ON c.cluster = m.cluster;
UPDATE c
SET z1 = @c0_1 + m.z1, z2 = @c0_2 + m.z2
FROM #sqlkmeans_centroid AS c
INNER JOIN (SELECT a.cluster, SUM(a.weight) AS weight, SUM(a.squares) AS squares, SUM(a.z1) / NULLIF(SUM(a.weight), 0e0) AS z1, SUM(a.z2) / NULLIF(SUM(a.weight), 0e0) AS z2
      FROM #sqlkmeans_moved AS a
      GROUP BY a.cluster
      HAVING SUM(a.weight) > 1e-12 * MAX(a.weight)) AS m ON m.cluster = c.cluster;
IF @@ROWCOUNT < @k
BEGIN
    SET @shift = NULL;
    UPDATE c
    SET z1 = f.z1, z2 = f.z2
    FROM #sqlkmeans_centroid AS c
    INNER JOIN (SELECT o.cluster, ROW_NUMBER() OVER (ORDER BY o.cluster) AS place
                FROM #sqlkmeans_centroid AS o
                WHERE o.cluster > 0 AND NOT EXISTS (SELECT 1 FROM (SELECT a.cluster, SUM(a.weight) AS weight, SUM(a.squares) AS squares, SUM(a.z1) / NULLIF(SUM(a.weight), 0e0) AS z1, SUM(a.z2) / NULLIF(SUM(a.weight), 0e0) AS z2
      FROM #sqlkmeans_moved AS a
      GROUP BY a.cluster
      HAVING SUM(a.weight) > 1e-12 * MAX(a.weight)) AS m WHERE m.cluster = o.cluster)) AS e
        ON e.cluster = c.cluster
    INNER JOIN (SELECT d.z1, d.z2,
                    ROW_NUMBER() OVER (ORDER BY d.squared DESC, d.row_number) AS place
                FROM (SELECT r.[sqlkmeans z1] AS z1, r.[sqlkmeans z2] AS z2, r.[sqlkmeans row] AS row_number, n.squared
                      FROM #sqlkmeans_prepared AS r
                      CROSS APPLY (SELECT TOP (1) (r.[sqlkmeans z1] - o.z1) * (r.[sqlkmeans z1] - o.z1) + (r.[sqlkmeans z2] - o.z2) * (r.[sqlkmeans z2] - o.z2) AS squared
                                   FROM #sqlkmeans_centroid AS o
                                   WHERE o.cluster > 0
                                   ORDER BY squared) AS n
                      WHERE r.[sqlkmeans weight] > 0e0) AS d) AS f
        ON f.place = e.place;
END;
GO
INSERT INTO #sqlkmeans_decile (feature, value, least, greatest)
SELECT n.feature, p.value, n.least, n.greatest
FROM (SELECT v.feature, MIN(v.value) AS least, MAX(v.value) AS greatest, COUNT_BIG(v.value) AS customers
            FROM #sqlkmeans_sample AS s
            CROSS APPLY (VALUES (1, s.[sqlkmeans o1]), (2, s.[sqlkmeans o2])) AS v (feature, value)
      GROUP BY v.feature) AS n
CROSS JOIN (VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9)) AS d (number)
INNER JOIN (SELECT v.feature, v.value,
                ROW_NUMBER() OVER (PARTITION BY v.feature ORDER BY v.value) - 1 AS place
            FROM #sqlkmeans_sample AS s
            CROSS APPLY (VALUES (1, s.[sqlkmeans o1]), (2, s.[sqlkmeans o2])) AS v (feature, value)
            WHERE v.value IS NOT NULL) AS p
    ON p.feature = n.feature AND p.place = d.number * (n.customers - 1) / 10
WHERE n.greatest > n.least;
GO
SELECT @total_ss = SUM(m.squares) - (SUM(m.z1) * SUM(m.z1) + SUM(m.z2) * SUM(m.z2)) / SUM(m.weight)
FROM #sqlkmeans_moved AS m;
INSERT INTO #sqlkmeans_point (cluster, position, scaled_value, value)
SELECT c.cluster, v.position, v.value, 0e0
FROM #sqlkmeans_centroid AS c
CROSS APPLY (VALUES (1, c.z1), (2, c.z2)) AS v (position, value)
WHERE c.cluster > 0;
GO
DECLARE @c0_1 float, @c0_2 float, @c1_1 float, @c1_2 float, @c2_1 float, @c2_2 float, @c3_1 float, @c3_2 float;
SELECT @c0_1 = SUM(CASE c.cluster WHEN 0 THEN c.z1 ELSE 0e0 END), @c0_2 = SUM(CASE c.cluster WHEN 0 THEN c.z2 ELSE 0e0 END), @c1_1 = SUM(CASE c.cluster WHEN 1 THEN c.z1 ELSE 0e0 END), @c1_2 = SUM(CASE c.cluster WHEN 1 THEN c.z2 ELSE 0e0 END), @c2_1 = SUM(CASE c.cluster WHEN 2 THEN c.z1 ELSE 0e0 END), @c2_2 = SUM(CASE c.cluster WHEN 2 THEN c.z2 ELSE 0e0 END), @c3_1 = SUM(CASE c.cluster WHEN 3 THEN c.z1 ELSE 0e0 END), @c3_2 = SUM(CASE c.cluster WHEN 3 THEN c.z2 ELSE 0e0 END)
FROM #sqlkmeans_centroid AS c;
INSERT INTO #sqlkmeans_near (cluster, position, value, customers)
SELECT g.cluster, v.position, v.value, COUNT_BIG(*)
FROM (SELECT TOP (8000) n.cluster AS [sqlkmeans cluster], r.[sqlkmeans o1], r.[sqlkmeans o2]
FROM #sqlkmeans_sample AS r
CROSS APPLY (SELECT (r.[sqlkmeans z1] - @c1_1) * (r.[sqlkmeans z1] - @c1_1) + (r.[sqlkmeans z2] - @c1_2) * (r.[sqlkmeans z2] - @c1_2) AS d1, (r.[sqlkmeans z1] - @c2_1) * (r.[sqlkmeans z1] - @c2_1) + (r.[sqlkmeans z2] - @c2_2) * (r.[sqlkmeans z2] - @c2_2) AS d2, (r.[sqlkmeans z1] - @c3_1) * (r.[sqlkmeans z1] - @c3_1) + (r.[sqlkmeans z2] - @c3_2) * (r.[sqlkmeans z2] - @c3_2) AS d3) AS d
CROSS APPLY (SELECT CASE WHEN d.d1 <= d.d2 AND d.d1 <= d.d3 THEN 1 WHEN d.d2 <= d.d3 THEN 2 ELSE 3 END AS cluster) AS n) AS s
CROSS APPLY (VALUES (0), (s.[sqlkmeans cluster])) AS g (cluster)
CROSS APPLY (VALUES (1, s.[sqlkmeans o1]), (2, s.[sqlkmeans o2])) AS v (position, value)
WHERE v.value IS NOT NULL
GROUP BY g.cluster, v.position, v.value;
GO
SELECT s.[sqlkmeans cluster] AS cluster, s.[sqlkmeans previous] AS previous,
    COUNT_BIG(*) AS customers, SUM(s.[sqlkmeans distance]) AS distance,
    SUM(s.[sqlkmeans distance] * s.[sqlkmeans distance]) AS within_ss,
    SUM(s.[sqlkmeans weight] * s.[sqlkmeans distance] * s.[sqlkmeans distance]) AS inertia,
    SUM(s.[sqlkmeans weight]) AS weight, COUNT_BIG(s.[sqlkmeans o1]) AS n1, SUM(s.[sqlkmeans o1] - p.c1) AS s1, SUM((s.[sqlkmeans o1] - p.c1) * (s.[sqlkmeans o1] - p.c1)) AS q1, MIN(s.[sqlkmeans o1]) AS l1, MAX(s.[sqlkmeans o1]) AS h1, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_1, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_2, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_3, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_4, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_5, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_6, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_7, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_8, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_9, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_10, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_11, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_12, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_13, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] < p.cl1 THEN 1 END) AS cb1, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] < p.el1 THEN 1 END) AS eb1, COUNT_BIG(s.[sqlkmeans o2]) AS n2, SUM(s.[sqlkmeans o2] - p.c2) AS s2, SUM((s.[sqlkmeans o2] - p.c2) * (s.[sqlkmeans o2] - p.c2)) AS q2, MIN(s.[sqlkmeans o2]) AS l2, MAX(s.[sqlkmeans o2]) AS h2, COUNT_BIG(CASE WHEN s.[sqlkmeans o2] <= 0.5e0 THEN 1 END) AS e2_1, COUNT_BIG(CASE WHEN s.[sqlkmeans o2] <= 0.5e0 THEN 1 END) AS e2_2, COUNT_BIG(CASE WHEN s.[sqlkmeans o2] < p.cl2 THEN 1 END) AS cb2, COUNT_BIG(CASE WHEN s.[sqlkmeans o2] < p.el2 THEN 1 END) AS eb2
INTO #sqlkmeans_wide
 FROM #sqlkmeans_scored AS s
INNER JOIN (SELECT a.cluster, MAX(CASE a.position WHEN 1 THEN a.value END) AS c1, MAX(CASE WHEN a.position = 1 AND b.cluster > 0 THEN b.low END) AS cl1, MAX(CASE WHEN a.position = 1 AND b.cluster > 0 THEN b.high END) AS ch1, MAX(CASE WHEN a.position = 1 AND b.cluster = 0 THEN b.low END) AS el1, MAX(CASE WHEN a.position = 1 AND b.cluster = 0 THEN b.high END) AS eh1, MAX(CASE a.position WHEN 2 THEN a.value END) AS c2, MAX(CASE WHEN a.position = 2 AND b.cluster > 0 THEN b.low END) AS cl2, MAX(CASE WHEN a.position = 2 AND b.cluster > 0 THEN b.high END) AS ch2, MAX(CASE WHEN a.position = 2 AND b.cluster = 0 THEN b.low END) AS el2, MAX(CASE WHEN a.position = 2 AND b.cluster = 0 THEN b.high END) AS eh2 FROM #sqlkmeans_point AS a
            LEFT JOIN #sqlkmeans_bracket AS b
                ON b.position = a.position AND b.cluster IN (0, a.cluster)
            GROUP BY a.cluster) AS p
    ON p.cluster = s.[sqlkmeans cluster]
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
      CROSS APPLY (VALUES (1, w.n1, w.s1, w.q1, w.l1, w.h1), (2, w.n2, w.s2, w.q2, w.l2, w.h2)) AS v (position, known, total, squares, lowest, highest)
      GROUP BY w.cluster, v.position) AS m
INNER JOIN #sqlkmeans_point AS p ON p.cluster = m.cluster AND p.position = m.position;
UPDATE e
SET customers = n.customers
FROM #sqlkmeans_edge AS e
INNER JOIN (SELECT v.position, v.number, SUM(v.customers) AS customers
            FROM #sqlkmeans_wide AS w
            CROSS APPLY (VALUES (1, 1, w.e1_1), (1, 2, w.e1_2), (1, 3, w.e1_3), (1, 4, w.e1_4), (1, 5, w.e1_5), (1, 6, w.e1_6), (1, 7, w.e1_7), (1, 8, w.e1_8), (1, 9, w.e1_9), (1, 10, w.e1_10), (1, 11, w.e1_11), (1, 12, w.e1_12), (1, 13, w.e1_13), (2, 1, w.e2_1), (2, 2, w.e2_2)) AS v (position, number, customers)
            GROUP BY v.position, v.number) AS n
    ON n.position = e.position AND n.number = e.number;
UPDATE b
SET below = n.customers
FROM #sqlkmeans_bracket AS b
INNER JOIN (SELECT v.cluster, v.position, SUM(v.customers) AS customers
            FROM #sqlkmeans_wide AS w
            CROSS APPLY (VALUES (w.cluster, 1, w.cb1), (0, 1, w.eb1), (w.cluster, 2, w.cb2), (0, 2, w.eb2)) AS v (cluster, position, customers)
            GROUP BY v.cluster, v.position) AS n
    ON n.cluster = b.cluster AND n.position = b.position;
INSERT INTO #sqlkmeans_near (cluster, position, value, customers)
SELECT v.cluster, v.position, v.value, COUNT_BIG(*)
 FROM #sqlkmeans_scored AS s
INNER JOIN (SELECT a.cluster, MAX(CASE a.position WHEN 1 THEN a.value END) AS c1, MAX(CASE WHEN a.position = 1 AND b.cluster > 0 THEN b.low END) AS cl1, MAX(CASE WHEN a.position = 1 AND b.cluster > 0 THEN b.high END) AS ch1, MAX(CASE WHEN a.position = 1 AND b.cluster = 0 THEN b.low END) AS el1, MAX(CASE WHEN a.position = 1 AND b.cluster = 0 THEN b.high END) AS eh1, MAX(CASE a.position WHEN 2 THEN a.value END) AS c2, MAX(CASE WHEN a.position = 2 AND b.cluster > 0 THEN b.low END) AS cl2, MAX(CASE WHEN a.position = 2 AND b.cluster > 0 THEN b.high END) AS ch2, MAX(CASE WHEN a.position = 2 AND b.cluster = 0 THEN b.low END) AS el2, MAX(CASE WHEN a.position = 2 AND b.cluster = 0 THEN b.high END) AS eh2 FROM #sqlkmeans_point AS a
            LEFT JOIN #sqlkmeans_bracket AS b
                ON b.position = a.position AND b.cluster IN (0, a.cluster)
            GROUP BY a.cluster) AS p
    ON p.cluster = s.[sqlkmeans cluster]
CROSS APPLY (VALUES (s.[sqlkmeans cluster], 1, s.[sqlkmeans o1], p.cl1, p.ch1), (0, 1, s.[sqlkmeans o1], p.el1, p.eh1), (s.[sqlkmeans cluster], 2, s.[sqlkmeans o2], p.cl2, p.ch2), (0, 2, s.[sqlkmeans o2], p.el2, p.eh2)) AS v (cluster, position, value, low, high)
WHERE (s.[sqlkmeans o1] BETWEEN p.cl1 AND p.ch1 OR s.[sqlkmeans o1] BETWEEN p.el1 AND p.eh1 OR s.[sqlkmeans o2] BETWEEN p.cl2 AND p.ch2 OR s.[sqlkmeans o2] BETWEEN p.el2 AND p.eh2) AND v.value BETWEEN v.low AND v.high
GROUP BY v.cluster, v.position, v.value;
DROP TABLE #sqlkmeans_wide;
GO
ALTER FUNCTION sqlkmeans.[assign_customers] (@income float, @age float)
RETURNS TABLE
AS
RETURN (
SELECT n.segment_id, n.segment_name, SQRT(n.squared_distance) AS distance,
    (SELECT SQRT(MIN(d.squared_distance))
FROM (VALUES
    (2, N'older', CAST(NULL AS float), 0.5e0, 0.5e0),
    (3, N'very high income, much older', CAST(NULL AS float), 0.5e0, 0.5e0),
    (4, N'low income, younger', CAST(NULL AS float), 0.5e0, 0.5e0)) AS c (segment_id, segment_name, outlier_distance, c1, c2)
CROSS APPLY (SELECT (z.z1 - c.c1) * (z.z1 - c.c1) + (z.z2 - c.c2) * (z.z2 - c.c2) AS squared_distance) AS d
WHERE c.segment_id <> n.segment_id) AS runner_up_distance,
    CAST(CASE WHEN SQRT(n.squared_distance) > n.outlier_distance THEN 1
              WHEN n.segment_id IS NOT NULL THEN 0 END AS bit) AS is_outlier
FROM (SELECT @income AS o1, @age AS o2) AS o
CROSS APPLY (SELECT COALESCE(o.o1, 0.5e0) AS x1, COALESCE(o.o2, 0.5e0) AS x2) AS x
CROSS APPLY (SELECT x.x1 AS t1, CASE WHEN 1e0 + x.x2 = 1e0 THEN x.x2 WHEN x.x2 > -1e0 THEN LOG(1e0 + x.x2) * (x.x2 / ((1e0 + x.x2) - 1e0)) END AS t2) AS t
CROSS APPLY (SELECT (t.t1 - (0.5e0)) / 0.5e0 AS z1, (t.t2 - (0.5e0)) / 0.5e0 AS z2) AS z
OUTER APPLY (SELECT TOP (1) c.segment_id, c.segment_name, c.outlier_distance,
    d.squared_distance
FROM (VALUES
    (2, N'older', CAST(NULL AS float), 0.5e0, 0.5e0),
    (3, N'very high income, much older', CAST(NULL AS float), 0.5e0, 0.5e0),
    (4, N'low income, younger', CAST(NULL AS float), 0.5e0, 0.5e0)) AS c (segment_id, segment_name, outlier_distance, c1, c2)
CROSS APPLY (SELECT (z.z1 - c.c1) * (z.z1 - c.c1) + (z.z2 - c.c2) * (z.z2 - c.c2) AS squared_distance) AS d
WHERE d.squared_distance IS NOT NULL
ORDER BY d.squared_distance, c.segment_id) AS n
);
GO
ALTER FUNCTION sqlkmeans.[explain_customers] (@income float, @age float)
RETURNS TABLE
AS
RETURN (
WITH feature AS
(
    SELECT v.position, m.feature, v.given, COALESCE(v.given, m.fill) AS start, v.z, m.low, m.high,
        CASE WHEN m.type = N'date' THEN CAST(DATEDIFF(day, '99991231', m.reference_date) AS float)
             WHEN w.is_whole = 1 AND w.least = 0e0 AND w.most = 1e0 THEN 0e0 END AS least,
        CASE WHEN m.type = N'date' THEN CAST(DATEDIFF(day, '00010101', m.reference_date) AS float)
             WHEN w.is_whole = 1 AND w.least = 0e0 AND w.most = 1e0 THEN 1e0 END AS most,
        CASE m.transform WHEN N'log1p' THEN 1 ELSE 0 END AS is_log, m.center,
        m.scale / m.weight AS divisor,
        CASE WHEN m.type = N'date' OR w.is_whole = 1 THEN 1 ELSE 0 END AS is_whole,
        CASE WHEN m.type = N'date' THEN m.reference_date END AS reference_date,
        CASE WHEN m.type = N'category' THEN COALESCE(m.level, N'(other)') END AS level
    FROM (SELECT @income AS o1, @age AS o2) AS o
    CROSS APPLY (SELECT COALESCE(o.o1, 0.5e0) AS x1, COALESCE(o.o2, 0.5e0) AS x2) AS x
CROSS APPLY (SELECT x.x1 AS t1, CASE WHEN 1e0 + x.x2 = 1e0 THEN x.x2 WHEN x.x2 > -1e0 THEN LOG(1e0 + x.x2) * (x.x2 / ((1e0 + x.x2) - 1e0)) END AS t2) AS t
CROSS APPLY (SELECT (t.t1 - (0.5e0)) / 0.5e0 AS z1, (t.t2 - (0.5e0)) / 0.5e0 AS z2) AS z
    CROSS APPLY (VALUES (1, @income, z.z1), (2, @age, z.z2)) AS v (position, given, z)
    INNER JOIN sqlkmeans.model_feature AS m ON m.run_id = 1 AND m.position = v.position
    LEFT JOIN (
        SELECT s.position, MIN(s.[min]) AS least, MAX(s.[max]) AS most,
            MIN(CASE WHEN s.[min] = FLOOR(s.[min]) AND s.[max] = FLOOR(s.[max])
                      AND 2e0 * s.median = FLOOR(2e0 * s.median) THEN 1 ELSE 0 END) AS is_whole
        FROM sqlkmeans.segment_feature AS s
        WHERE s.run_id = 1
        GROUP BY s.position
    ) AS w ON w.position = v.position
),
centroid AS
(
    SELECT c.segment_id, c.position, c.scaled_value AS value
    FROM sqlkmeans.centroid AS c
    WHERE c.run_id = 1
),
distance AS
(
    SELECT c.segment_id, SUM((f.z - c.value) * (f.z - c.value)) AS squared
    FROM feature AS f
    INNER JOIN centroid AS c ON c.position = f.position
    GROUP BY c.segment_id
),
decided AS
(
    SELECT TOP (1) n.segment_id, n.segment_name, d.squared, o.segment_id AS runner_up_id, o.squared AS far
    FROM sqlkmeans.[assign_customers](@income, @age) AS n
    INNER JOIN distance AS d ON d.segment_id = n.segment_id
    INNER JOIN distance AS o ON o.segment_id <> n.segment_id
    ORDER BY o.squared, o.segment_id
),
compared AS
(
    SELECT f.position, f.feature, f.given, f.start, f.z, f.low, f.high, f.least, f.most, f.is_log,
        f.center, f.divisor, f.is_whole, f.reference_date, f.level, g.segment_id, g.segment_name,
        g.runner_up_id, g.squared, a.value AS own_value,
        (f.z - r.value) * (f.z - r.value) - (f.z - a.value) * (f.z - a.value) AS part
    FROM decided AS g
    CROSS JOIN feature AS f
    INNER JOIN centroid AS a ON a.segment_id = g.segment_id AND a.position = f.position
    INNER JOIN centroid AS r ON r.segment_id = g.runner_up_id AND r.position = f.position
),
nearest AS
(
    SELECT p.position, w.new_value
    FROM compared AS p
    CROSS APPLY (
        SELECT TOP (1) y.new_value
        FROM centroid AS c
        INNER JOIN distance AS d ON d.segment_id = c.segment_id
        CROSS APPLY (SELECT c.value - p.own_value AS apart) AS h
        CROSS APPLY (SELECT CASE
                WHEN ABS(h.apart) > 1e-09 * (SQRT(d.squared) + SQRT(p.squared))
                THEN (d.squared - p.squared) / (2e0 * h.apart) END AS step) AS s
        CROSS APPLY (SELECT (p.z + s.step) * p.divisor + p.center AS t,
                p.divisor * (SQRT(p.squared) + ABS(s.step)) AS far) AS b
        CROSS APPLY (SELECT
                CASE WHEN p.is_log = 0 THEN b.t
                     WHEN b.t BETWEEN -30.0e0 AND 36.0e0
                     THEN CASE WHEN EXP(b.t) = 1e0 THEN b.t
                          ELSE (EXP(b.t) - 1e0) * (b.t / LOG(EXP(b.t))) END END AS border,
                CASE WHEN p.is_log = 0 THEN b.far
                     WHEN b.t BETWEEN -30.0e0 AND 36.0e0
                     THEN b.far * EXP(b.t) END AS way) AS x
        CROSS APPLY (SELECT CASE WHEN p.is_whole = 1 THEN 0e0
                WHEN 0.001e0 * x.way + 1e-10 * ABS(x.border) > 1e-290
                THEN FLOOR(LOG10(0.001e0 * x.way + 1e-10 * ABS(x.border))) END AS power) AS e
        CROSS APPLY (SELECT POWER(10e0, CASE WHEN e.power > 0e0 THEN e.power ELSE 0e0 END) AS unit,
                POWER(10e0, CASE WHEN e.power < 0e0 THEN -e.power ELSE 0e0 END) AS parts) AS u
        CROSS APPLY (SELECT CASE p.is_whole
                WHEN 1 THEN 1e-06 * x.way + 1e-10 * ABS(x.border)
                ELSE 0.001e0 * u.unit / u.parts END AS clear) AS q
        CROSS APPLY (SELECT CASE WHEN h.apart > 0e0
                THEN (FLOOR((x.border + q.clear) / u.unit * u.parts) + 1e0) / u.parts * u.unit
                ELSE (CEILING((x.border - q.clear) / u.unit * u.parts) - 1e0) / u.parts * u.unit
                END AS new_value) AS y
        WHERE c.position = p.position AND c.segment_id <> p.segment_id AND p.level IS NULL
          AND ABS(h.apart) * 1000000.0e0 > SQRT(p.squared) + ABS(s.step)
          AND (p.is_log = 0 OR y.new_value > -1e0)
          AND (p.least IS NULL OR y.new_value BETWEEN p.least AND p.most)
          AND (p.low IS NULL OR (h.apart > 0e0 AND x.border < p.high)
               OR (h.apart < 0e0 AND x.border > p.low))
        ORDER BY ABS(y.new_value - p.start), y.new_value DESC
    ) AS w
),
proposed AS
(
    SELECT p.position, MAX(w.new_value) AS new_value,
        MAX(CASE WHEN p.position BETWEEN 1 AND 1 THEN w.new_value ELSE @income END) AS v1, MAX(CASE WHEN p.position BETWEEN 2 AND 2 THEN w.new_value ELSE @age END) AS v2
    FROM compared AS p
    LEFT JOIN nearest AS w ON w.position = p.position
    WHERE w.new_value IS NOT NULL OR (p.level IS NOT NULL AND p.given = 0e0)
    GROUP BY p.position
)
SELECT p.position, p.feature, p.segment_id, p.segment_name, p.runner_up_id,
    CASE WHEN SUM(p.part) OVER () > 0e0 THEN p.part / SUM(p.part) OVER () ELSE 0e0
        END AS contribution,
    CASE WHEN p.reference_date IS NULL THEN m.new_value END AS new_value,
    DATEADD(day, -CAST(CASE WHEN p.reference_date IS NOT NULL THEN m.new_value END AS int), p.reference_date) AS new_date,
    CASE WHEN m.segment_id IS NOT NULL THEN p.level END AS new_level,
    CASE WHEN p.reference_date IS NULL THEN m.new_value - p.given ELSE p.given - m.new_value
        END AS difference,
    m.segment_id AS new_segment_id, m.segment_name AS new_segment_name
FROM compared AS p
LEFT JOIN (
    SELECT v.position, v.new_value, n.segment_id, n.segment_name
    FROM proposed AS v
    CROSS APPLY sqlkmeans.[assign_customers](v.v1, v.v2) AS n
) AS m ON m.position = p.position AND m.segment_id <> p.segment_id
);
GO
SELECT @arrived = COUNT_BIG(*) FROM [dbo].[customer_segment_history] AS h WHERE h.valid_from <= @then AND (h.valid_to IS NULL OR h.valid_to > @then);
INSERT INTO sqlkmeans.[staging_1] WITH (TABLOCK) ([customer_id], cluster, distance, is_outlier)
SELECT h.[customer_id], h.segment_id, h.distance, h.is_outlier
FROM [dbo].[customer_segment_history] AS h
LEFT JOIN [dbo].[customer_segment] AS t ON t.[customer_id] = h.[customer_id]
WHERE h.valid_from <= @then AND (h.valid_to IS NULL OR h.valid_to > @then)
  AND (t.segment_id IS NULL OR t.segment_id <> h.segment_id OR t.distance <> h.distance
       OR t.is_outlier <> h.is_outlier);
INSERT INTO sqlkmeans.[staging_1] ([customer_id], cluster, distance, departed)
SELECT t.[customer_id], 0, 0e0, 1
FROM [dbo].[customer_segment] AS t
WHERE NOT EXISTS (SELECT 1 FROM [dbo].[customer_segment_history] AS h WHERE t.[customer_id] = h.[customer_id] AND h.valid_from <= @then AND (h.valid_to IS NULL OR h.valid_to > @then));
GO
ALTER FUNCTION sqlkmeans.[assign_customers] (@income float, @age float)
RETURNS TABLE
AS
RETURN (
SELECT n.segment_id, n.segment_name, SQRT(n.squared_distance) AS distance,
    (SELECT SQRT(MIN(d.squared_distance))
FROM (VALUES
    (1, N'younger, low income', CAST(NULL AS float), 0.5e0, 0.5e0),
    (2, N'older', CAST(NULL AS float), 0.5e0, 0.5e0),
    (3, N'very high income, much older', CAST(NULL AS float), 0.5e0, 0.5e0)) AS c (segment_id, segment_name, outlier_distance, c1, c2)
CROSS APPLY (SELECT (z.z1 - c.c1) * (z.z1 - c.c1) + (z.z2 - c.c2) * (z.z2 - c.c2) AS squared_distance) AS d
WHERE c.segment_id <> n.segment_id) AS runner_up_distance,
    CAST(CASE WHEN SQRT(n.squared_distance) > n.outlier_distance THEN 1
              WHEN n.segment_id IS NOT NULL THEN 0 END AS bit) AS is_outlier
FROM (SELECT @income AS o1, @age AS o2) AS o
CROSS APPLY (SELECT COALESCE(o.o1, 0.5e0) AS x1, COALESCE(o.o2, 0.5e0) AS x2) AS x
CROSS APPLY (SELECT x.x1 AS t1, CASE WHEN 1e0 + x.x2 = 1e0 THEN x.x2 WHEN x.x2 > -1e0 THEN LOG(1e0 + x.x2) * (x.x2 / ((1e0 + x.x2) - 1e0)) END AS t2) AS t
CROSS APPLY (SELECT (t.t1 - (0.5e0)) / 0.5e0 AS z1, (t.t2 - (0.5e0)) / 0.5e0 AS z2) AS z
OUTER APPLY (SELECT TOP (1) c.segment_id, c.segment_name, c.outlier_distance,
    d.squared_distance
FROM (VALUES
    (1, N'younger, low income', CAST(NULL AS float), 0.5e0, 0.5e0),
    (2, N'older', CAST(NULL AS float), 0.5e0, 0.5e0),
    (3, N'very high income, much older', CAST(NULL AS float), 0.5e0, 0.5e0)) AS c (segment_id, segment_name, outlier_distance, c1, c2)
CROSS APPLY (SELECT (z.z1 - c.c1) * (z.z1 - c.c1) + (z.z2 - c.c2) * (z.z2 - c.c2) AS squared_distance) AS d
WHERE d.squared_distance IS NOT NULL
ORDER BY d.squared_distance, c.segment_id) AS n
);
GO
ALTER FUNCTION sqlkmeans.[assign_customers] (@income float, @age float)
RETURNS TABLE
AS
RETURN (
SELECT n.segment_id, n.segment_name, SQRT(n.squared_distance) AS distance,
    (SELECT SQRT(MIN(d.squared_distance))
FROM (VALUES
    (1, N'it''s', CAST(NULL AS float), 0.5e0, 0.5e0),
    (2, N'older', CAST(NULL AS float), 0.5e0, 0.5e0),
    (3, N'very high income, much older', CAST(NULL AS float), 0.5e0, 0.5e0)) AS c (segment_id, segment_name, outlier_distance, c1, c2)
CROSS APPLY (SELECT (z.z1 - c.c1) * (z.z1 - c.c1) + (z.z2 - c.c2) * (z.z2 - c.c2) AS squared_distance) AS d
WHERE c.segment_id <> n.segment_id) AS runner_up_distance,
    CAST(CASE WHEN SQRT(n.squared_distance) > n.outlier_distance THEN 1
              WHEN n.segment_id IS NOT NULL THEN 0 END AS bit) AS is_outlier
FROM (SELECT @income AS o1, @age AS o2) AS o
CROSS APPLY (SELECT COALESCE(o.o1, 0.5e0) AS x1, COALESCE(o.o2, 0.5e0) AS x2) AS x
CROSS APPLY (SELECT x.x1 AS t1, CASE WHEN 1e0 + x.x2 = 1e0 THEN x.x2 WHEN x.x2 > -1e0 THEN LOG(1e0 + x.x2) * (x.x2 / ((1e0 + x.x2) - 1e0)) END AS t2) AS t
CROSS APPLY (SELECT (t.t1 - (0.5e0)) / 0.5e0 AS z1, (t.t2 - (0.5e0)) / 0.5e0 AS z2) AS z
OUTER APPLY (SELECT TOP (1) c.segment_id, c.segment_name, c.outlier_distance,
    d.squared_distance
FROM (VALUES
    (1, N'it''s', CAST(NULL AS float), 0.5e0, 0.5e0),
    (2, N'older', CAST(NULL AS float), 0.5e0, 0.5e0),
    (3, N'very high income, much older', CAST(NULL AS float), 0.5e0, 0.5e0)) AS c (segment_id, segment_name, outlier_distance, c1, c2)
CROSS APPLY (SELECT (z.z1 - c.c1) * (z.z1 - c.c1) + (z.z2 - c.c2) * (z.z2 - c.c2) AS squared_distance) AS d
WHERE d.squared_distance IS NOT NULL
ORDER BY d.squared_distance, c.segment_id) AS n
);
GO
SET @arrived = OBJECT_ID(@text, N'U');
GO
SELECT @arrived = COUNT_BIG(*) FROM [dbo].[customer_segment_history] AS h WHERE h.valid_to < @then;
GO
IF NOT EXISTS (SELECT 1 FROM sys.indexes AS i
               WHERE i.object_id = OBJECT_ID(@text, N'U') AND i.name LIKE N'ix_history_valid_to%')
    CREATE INDEX ix_history_valid_to ON [dbo].[customer_segment_history] (valid_to);
GO
SELECT @arrived = COUNT_BIG(*) FROM (SELECT TOP (1) 1 AS one FROM [dbo].[customer_segment_history] WITH (TABLOCK, HOLDLOCK)) AS t;
GO
DELETE TOP (4000) FROM [dbo].[customer_segment_history] WHERE valid_to < @then; SET @arrived = ROWCOUNT_BIG();
GO
CREATE TABLE sqlkmeans.[staging_1] ([id] int NOT NULL, cluster int NOT NULL, distance float NOT NULL, departed bit NOT NULL DEFAULT (0), is_outlier bit NULL, PRIMARY KEY CLUSTERED ([id], departed));
GO
ALTER TABLE #sqlkmeans_input ADD [id] int NULL; ALTER TABLE #sqlkmeans_input ADD [sqlkmeans f1] float NULL; ALTER TABLE #sqlkmeans_input ADD [sqlkmeans f2] float NULL;
GO
INSERT INTO #sqlkmeans_input WITH (TABLOCK) ([sqlkmeans row], [sqlkmeans place], [id], [sqlkmeans previous], [sqlkmeans before], [sqlkmeans flagged], [sqlkmeans weight], [sqlkmeans f1], [sqlkmeans f2]) SELECT ROW_NUMBER() OVER (ORDER BY s.[id]), DENSE_RANK() OVER (ORDER BY s.[id]), s.[id], NULL, NULL, NULL, 1e0, CAST(s.[x] AS float), CAST(s.[y] AS float) FROM [dbo].[square] AS s; SET @total = ROWCOUNT_BIG();
GO
SELECT COUNT_BIG(*) AS total, COUNT_BIG(t.fit) AS fitted, COUNT_BIG(t.whole) AS kept,
    SUM(CASE t.fit WHEN 1 THEN t.w END) AS weight, SUM(CASE t.fit WHEN 1 THEN t.w * t.w END) AS squares,
    COUNT_BIG(CASE WHEN t.w IS NULL OR t.w < 0e0 THEN 1 END) AS absent,
    COUNT_BIG(CASE WHEN i.[id] IS NULL THEN 1 END)
        + COUNT_BIG(*) - COALESCE(MAX(i.[sqlkmeans place]), 0) AS unkeyed, COUNT_BIG(i.[sqlkmeans f1]) AS a1, COUNT_BIG(CASE t.fit WHEN 1 THEN i.[sqlkmeans f1] END) AS k1,
    MIN(CASE t.fit WHEN 1 THEN i.[sqlkmeans f1] END) AS l1, MAX(CASE t.fit WHEN 1 THEN i.[sqlkmeans f1] END) AS h1,
    COUNT_BIG(CASE WHEN t.fit = 1 AND i.[sqlkmeans f1] <> FLOOR(i.[sqlkmeans f1]) THEN 1 END) AS p1,
    COUNT_BIG(CASE WHEN t.whole = 1 AND i.[sqlkmeans f1] <= -1e0 THEN 1 END) AS u1,
    SUM(CASE WHEN t.fit = 1 AND i.[sqlkmeans f1] IS NOT NULL THEN t.w END) AS w1,
    SUM(CASE WHEN t.fit = 1 AND i.[sqlkmeans f1] IS NOT NULL THEN t.w * t.w END) AS v1,
    SUM(CASE t.fit WHEN 1 THEN t.w * i.[sqlkmeans f1] END) AS m1, COUNT_BIG(i.[sqlkmeans f2]) AS a2, COUNT_BIG(CASE t.fit WHEN 1 THEN i.[sqlkmeans f2] END) AS k2,
    MIN(CASE t.fit WHEN 1 THEN i.[sqlkmeans f2] END) AS l2, MAX(CASE t.fit WHEN 1 THEN i.[sqlkmeans f2] END) AS h2,
    COUNT_BIG(CASE WHEN t.fit = 1 AND i.[sqlkmeans f2] <> FLOOR(i.[sqlkmeans f2]) THEN 1 END) AS p2,
    COUNT_BIG(CASE WHEN t.whole = 1 AND i.[sqlkmeans f2] <= -1e0 THEN 1 END) AS u2,
    SUM(CASE WHEN t.fit = 1 AND i.[sqlkmeans f2] IS NOT NULL THEN t.w END) AS w2,
    SUM(CASE WHEN t.fit = 1 AND i.[sqlkmeans f2] IS NOT NULL THEN t.w * t.w END) AS v2,
    SUM(CASE t.fit WHEN 1 THEN t.w * i.[sqlkmeans f2] END) AS m2
INTO #sqlkmeans_sums
FROM #sqlkmeans_input AS i
CROSS APPLY (SELECT i.[sqlkmeans weight] AS w, CASE WHEN 1 = 1 THEN 1 END AS whole,
                 CASE WHEN i.[sqlkmeans weight] > 0e0 THEN 1 END AS fit) AS t;
UPDATE c
SET absent = s.total - v.held, known = v.known, least = v.least, greatest = v.greatest,
    fractions = v.fractions, floors = v.floors, weights = v.weights, squares = v.squares,
    mean = v.total / NULLIF(v.weights, 0e0)
FROM #sqlkmeans_column AS c
CROSS JOIN #sqlkmeans_sums AS s
CROSS APPLY (VALUES (@number + 1, s.a1, s.k1, s.l1, s.h1, s.p1, s.u1, s.w1, s.v1, s.m1), (@number + 2, s.a2, s.k2, s.l2, s.h2, s.p2, s.u2, s.w2, s.v2, s.m2)) AS v (number, held, known, least, greatest, fractions, floors, weights, squares, total)
WHERE v.number = c.number;
SELECT @total = s.total, @fitted = s.fitted, @kept = s.kept, @weight = s.weight, @squares = s.squares,
    @absent = s.absent, @unkeyed = s.unkeyed
FROM #sqlkmeans_sums AS s;
DROP TABLE #sqlkmeans_sums;
GO
UPDATE c
SET center = c.origin + v.rest, scale = CASE WHEN v.squares > v.rest * v.rest
    THEN SQRT(v.squares - v.rest * v.rest) ELSE 0e0 END
FROM #sqlkmeans_column AS c
CROSS JOIN (SELECT SUM(t.w * (t.x1 - (0.5e0))) / SUM(t.w) AS m1, SUM(t.w * (t.x1 - (0.5e0)) * (t.x1 - (0.5e0))) / SUM(t.w) AS q1, SUM(t.w * (t.x2 - (0.5e0))) / SUM(t.w) AS m2, SUM(t.w * (t.x2 - (0.5e0)) * (t.x2 - (0.5e0))) / SUM(t.w) AS q2
            FROM #sqlkmeans_input AS i
            CROSS APPLY (SELECT i.[sqlkmeans weight] AS w, COALESCE(i.[sqlkmeans f1], 0e0) AS x1, COALESCE(i.[sqlkmeans f2], 0e0) AS x2) AS t
            WHERE i.[sqlkmeans weight] > 0e0) AS s
CROSS APPLY (VALUES (@number + 1, s.m1, s.q1), (@number + 2, s.m2, s.q2)) AS v (number, rest, squares)
WHERE v.number = c.number;
GO
ALTER TABLE #sqlkmeans_prepared ADD [id] int NULL; ALTER TABLE #sqlkmeans_scored ADD [id] int NULL; ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans o1] float NULL; ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans z1] float NULL; ALTER TABLE #sqlkmeans_scored ADD [sqlkmeans o1] float NULL; ALTER TABLE #sqlkmeans_centroid ADD z1 float NULL; ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans o2] float NULL; ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans z2] float NULL; ALTER TABLE #sqlkmeans_scored ADD [sqlkmeans o2] float NULL; ALTER TABLE #sqlkmeans_centroid ADD z2 float NULL;
GO
INSERT INTO #sqlkmeans_prepared WITH (TABLOCK) ([id], [sqlkmeans row], [sqlkmeans previous], [sqlkmeans before], [sqlkmeans flagged], [sqlkmeans weight], [sqlkmeans o1], [sqlkmeans z1], [sqlkmeans o2], [sqlkmeans z2])
SELECT i.[id], i.[sqlkmeans row], i.[sqlkmeans previous], i.[sqlkmeans before], i.[sqlkmeans flagged], i.[sqlkmeans weight], o.o1, z.z1, o.o2, z.z2
FROM #sqlkmeans_input AS i
CROSS APPLY (SELECT i.[sqlkmeans f1] AS [x], i.[sqlkmeans f2] AS [y]) AS s
CROSS APPLY (SELECT CAST(s.[x] AS float) AS o1, CAST(s.[y] AS float) AS o2) AS o
CROSS APPLY (SELECT o.o1 AS x1, o.o2 AS x2) AS x
CROSS APPLY (SELECT x.x1 AS t1, x.x2 AS t2) AS t
CROSS APPLY (SELECT (t.t1 - (0.5e0)) / 0.5e0 AS z1, (t.t2 - (0.5e0)) / 0.5e0 AS z2) AS z;
SET @rows = ROWCOUNT_BIG();
GO
DECLARE @c0_1 float, @c0_2 float, @c1_1 float, @c1_2 float, @c2_1 float, @c2_2 float, @c3_1 float, @c3_2 float;
SELECT @c0_1 = SUM(CASE c.cluster WHEN 0 THEN c.z1 ELSE 0e0 END), @c0_2 = SUM(CASE c.cluster WHEN 0 THEN c.z2 ELSE 0e0 END), @c1_1 = SUM(CASE c.cluster WHEN 1 THEN c.z1 ELSE 0e0 END), @c1_2 = SUM(CASE c.cluster WHEN 1 THEN c.z2 ELSE 0e0 END), @c2_1 = SUM(CASE c.cluster WHEN 2 THEN c.z1 ELSE 0e0 END), @c2_2 = SUM(CASE c.cluster WHEN 2 THEN c.z2 ELSE 0e0 END), @c3_1 = SUM(CASE c.cluster WHEN 3 THEN c.z1 ELSE 0e0 END), @c3_2 = SUM(CASE c.cluster WHEN 3 THEN c.z2 ELSE 0e0 END)
FROM #sqlkmeans_centroid AS c;
INSERT INTO #sqlkmeans_moved (kept, cluster, previous, customers, weight, squares, z1, z2)
SELECT 1, n.cluster, r.[sqlkmeans previous], COUNT_BIG(*), SUM(r.[sqlkmeans weight]), SUM(r.[sqlkmeans weight] * ((r.[sqlkmeans z1] - @c0_1) * (r.[sqlkmeans z1] - @c0_1) + (r.[sqlkmeans z2] - @c0_2) * (r.[sqlkmeans z2] - @c0_2))),
    SUM(r.[sqlkmeans weight] * (r.[sqlkmeans z1] - @c0_1)), SUM(r.[sqlkmeans weight] * (r.[sqlkmeans z2] - @c0_2))
FROM #sqlkmeans_prepared AS r
CROSS APPLY (SELECT (r.[sqlkmeans z1] - @c1_1) * (r.[sqlkmeans z1] - @c1_1) + (r.[sqlkmeans z2] - @c1_2) * (r.[sqlkmeans z2] - @c1_2) AS d1, (r.[sqlkmeans z1] - @c2_1) * (r.[sqlkmeans z1] - @c2_1) + (r.[sqlkmeans z2] - @c2_2) * (r.[sqlkmeans z2] - @c2_2) AS d2, (r.[sqlkmeans z1] - @c3_1) * (r.[sqlkmeans z1] - @c3_1) + (r.[sqlkmeans z2] - @c3_2) * (r.[sqlkmeans z2] - @c3_2) AS d3) AS d
CROSS APPLY (SELECT CASE WHEN d.d1 <= d.d2 AND d.d1 <= d.d3 THEN 1 WHEN d.d2 <= d.d3 THEN 2 ELSE 3 END AS cluster) AS n
GROUP BY n.cluster, r.[sqlkmeans previous];
INSERT INTO #sqlkmeans_border (level, [sqlkmeans row], [sqlkmeans previous], [sqlkmeans weight], [sqlkmeans z1], [sqlkmeans z2])
SELECT @level, r.[sqlkmeans row], r.[sqlkmeans previous], r.[sqlkmeans weight], r.[sqlkmeans z1], r.[sqlkmeans z2]
FROM #sqlkmeans_prepared AS r
CROSS APPLY (SELECT (r.[sqlkmeans z1] - @c1_1) * (r.[sqlkmeans z1] - @c1_1) + (r.[sqlkmeans z2] - @c1_2) * (r.[sqlkmeans z2] - @c1_2) AS d1, (r.[sqlkmeans z1] - @c2_1) * (r.[sqlkmeans z1] - @c2_1) + (r.[sqlkmeans z2] - @c2_2) * (r.[sqlkmeans z2] - @c2_2) AS d2, (r.[sqlkmeans z1] - @c3_1) * (r.[sqlkmeans z1] - @c3_1) + (r.[sqlkmeans z2] - @c3_2) * (r.[sqlkmeans z2] - @c3_2) AS d3) AS d
CROSS APPLY (SELECT CASE WHEN d.d1 <= d.d2 AND d.d1 <= d.d3 THEN 1 WHEN d.d2 <= d.d3 THEN 2 ELSE 3 END AS cluster) AS n
INNER JOIN #sqlkmeans_centroid AS o ON o.cluster = n.cluster
CROSS APPLY (SELECT SQRT((r.[sqlkmeans z1] - o.z1) * (r.[sqlkmeans z1] - o.z1) + (r.[sqlkmeans z2] - o.z2) * (r.[sqlkmeans z2] - o.z2)) + @margin AS reach) AS q
WHERE CASE WHEN (r.[sqlkmeans z1] - @c1_1) * (r.[sqlkmeans z1] - @c1_1) + (r.[sqlkmeans z2] - @c1_2) * (r.[sqlkmeans z2] - @c1_2) <= q.reach * q.reach THEN 1 ELSE 0 END + CASE WHEN (r.[sqlkmeans z1] - @c2_1) * (r.[sqlkmeans z1] - @c2_1) + (r.[sqlkmeans z2] - @c2_2) * (r.[sqlkmeans z2] - @c2_2) <= q.reach * q.reach THEN 1 ELSE 0 END + CASE WHEN (r.[sqlkmeans z1] - @c3_1) * (r.[sqlkmeans z1] - @c3_1) + (r.[sqlkmeans z2] - @c3_2) * (r.[sqlkmeans z2] - @c3_2) <= q.reach * q.reach THEN 1 ELSE 0 END > 1;
DELETE FROM #sqlkmeans_border WHERE level < @level;
INSERT INTO #sqlkmeans_moved (kept, cluster, previous, customers, weight, squares, z1, z2)
SELECT 1, n.cluster, r.[sqlkmeans previous], -COUNT_BIG(*), -SUM(r.[sqlkmeans weight]), -SUM(r.[sqlkmeans weight] * ((r.[sqlkmeans z1] - @c0_1) * (r.[sqlkmeans z1] - @c0_1) + (r.[sqlkmeans z2] - @c0_2) * (r.[sqlkmeans z2] - @c0_2))),
    -SUM(r.[sqlkmeans weight] * (r.[sqlkmeans z1] - @c0_1)), -SUM(r.[sqlkmeans weight] * (r.[sqlkmeans z2] - @c0_2))
FROM #sqlkmeans_border AS r
CROSS APPLY (SELECT (r.[sqlkmeans z1] - @c1_1) * (r.[sqlkmeans z1] - @c1_1) + (r.[sqlkmeans z2] - @c1_2) * (r.[sqlkmeans z2] - @c1_2) AS d1, (r.[sqlkmeans z1] - @c2_1) * (r.[sqlkmeans z1] - @c2_1) + (r.[sqlkmeans z2] - @c2_2) * (r.[sqlkmeans z2] - @c2_2) AS d2, (r.[sqlkmeans z1] - @c3_1) * (r.[sqlkmeans z1] - @c3_1) + (r.[sqlkmeans z2] - @c3_2) * (r.[sqlkmeans z2] - @c3_2) AS d3) AS d
CROSS APPLY (SELECT CASE WHEN d.d1 <= d.d2 AND d.d1 <= d.d3 THEN 1 WHEN d.d2 <= d.d3 THEN 2 ELSE 3 END AS cluster) AS n
GROUP BY n.cluster, r.[sqlkmeans previous];
DELETE FROM #sqlkmeans_centroid WHERE cluster < 0;
INSERT INTO #sqlkmeans_centroid (cluster, z1, z2)
SELECT -cluster, z1, z2 FROM #sqlkmeans_centroid WHERE cluster > 0;
GO
SET @passes = 0;
WHILE @passes = 0 OR (@passes < 5 AND @shift > @rest AND 2 * @drift < @margin)
BEGIN
DECLARE @c0_1 float, @c0_2 float, @c1_1 float, @c1_2 float, @c2_1 float, @c2_2 float, @c3_1 float, @c3_2 float;
SELECT @c0_1 = SUM(CASE c.cluster WHEN 0 THEN c.z1 ELSE 0e0 END), @c0_2 = SUM(CASE c.cluster WHEN 0 THEN c.z2 ELSE 0e0 END), @c1_1 = SUM(CASE c.cluster WHEN 1 THEN c.z1 ELSE 0e0 END), @c1_2 = SUM(CASE c.cluster WHEN 1 THEN c.z2 ELSE 0e0 END), @c2_1 = SUM(CASE c.cluster WHEN 2 THEN c.z1 ELSE 0e0 END), @c2_2 = SUM(CASE c.cluster WHEN 2 THEN c.z2 ELSE 0e0 END), @c3_1 = SUM(CASE c.cluster WHEN 3 THEN c.z1 ELSE 0e0 END), @c3_2 = SUM(CASE c.cluster WHEN 3 THEN c.z2 ELSE 0e0 END)
FROM #sqlkmeans_centroid AS c;
DELETE FROM #sqlkmeans_moved WHERE kept = 0;
INSERT INTO #sqlkmeans_moved (kept, cluster, previous, customers, weight, squares, z1, z2)
SELECT 0, n.cluster, r.[sqlkmeans previous], COUNT_BIG(*), SUM(r.[sqlkmeans weight]), SUM(r.[sqlkmeans weight] * ((r.[sqlkmeans z1] - @c0_1) * (r.[sqlkmeans z1] - @c0_1) + (r.[sqlkmeans z2] - @c0_2) * (r.[sqlkmeans z2] - @c0_2))),
    SUM(r.[sqlkmeans weight] * (r.[sqlkmeans z1] - @c0_1)), SUM(r.[sqlkmeans weight] * (r.[sqlkmeans z2] - @c0_2))
FROM #sqlkmeans_border AS r
CROSS APPLY (SELECT (r.[sqlkmeans z1] - @c1_1) * (r.[sqlkmeans z1] - @c1_1) + (r.[sqlkmeans z2] - @c1_2) * (r.[sqlkmeans z2] - @c1_2) AS d1, (r.[sqlkmeans z1] - @c2_1) * (r.[sqlkmeans z1] - @c2_1) + (r.[sqlkmeans z2] - @c2_2) * (r.[sqlkmeans z2] - @c2_2) AS d2, (r.[sqlkmeans z1] - @c3_1) * (r.[sqlkmeans z1] - @c3_1) + (r.[sqlkmeans z2] - @c3_2) * (r.[sqlkmeans z2] - @c3_2) AS d3) AS d
CROSS APPLY (SELECT CASE WHEN d.d1 <= d.d2 AND d.d1 <= d.d3 THEN 1 WHEN d.d2 <= d.d3 THEN 2 ELSE 3 END AS cluster) AS n
GROUP BY n.cluster, r.[sqlkmeans previous];
SELECT @shift = SUM((m.z1 - (c.z1 - @c0_1)) * (m.z1 - (c.z1 - @c0_1)) + (m.z2 - (c.z2 - @c0_2)) * (m.z2 - (c.z2 - @c0_2))),
    @inertia = SUM(m.squares + m.weight * ((c.z1 - @c0_1) * (c.z1 - @c0_1 - 2e0 * m.z1) + (c.z2 - @c0_2) * (c.z2 - @c0_2 - 2e0 * m.z2)))
FROM (SELECT a.cluster, SUM(a.weight) AS weight, SUM(a.squares) AS squares, SUM(a.z1) / NULLIF(SUM(a.weight), 0e0) AS z1, SUM(a.z2) / NULLIF(SUM(a.weight), 0e0) AS z2
      FROM #sqlkmeans_moved AS a
      GROUP BY a.cluster
      HAVING SUM(a.weight) > 1e-12 * MAX(a.weight)) AS m
INNER JOIN #sqlkmeans_centroid AS c ON c.cluster = m.cluster;
UPDATE c
SET z1 = @c0_1 + m.z1, z2 = @c0_2 + m.z2
FROM #sqlkmeans_centroid AS c
INNER JOIN (SELECT a.cluster, SUM(a.weight) AS weight, SUM(a.squares) AS squares, SUM(a.z1) / NULLIF(SUM(a.weight), 0e0) AS z1, SUM(a.z2) / NULLIF(SUM(a.weight), 0e0) AS z2
      FROM #sqlkmeans_moved AS a
      GROUP BY a.cluster
      HAVING SUM(a.weight) > 1e-12 * MAX(a.weight)) AS m ON m.cluster = c.cluster;
IF @@ROWCOUNT < @k
BEGIN
    SET @shift = NULL;
    UPDATE c
    SET z1 = f.z1, z2 = f.z2
    FROM #sqlkmeans_centroid AS c
    INNER JOIN (SELECT o.cluster, ROW_NUMBER() OVER (ORDER BY o.cluster) AS place
                FROM #sqlkmeans_centroid AS o
                WHERE o.cluster > 0 AND NOT EXISTS (SELECT 1 FROM (SELECT a.cluster, SUM(a.weight) AS weight, SUM(a.squares) AS squares, SUM(a.z1) / NULLIF(SUM(a.weight), 0e0) AS z1, SUM(a.z2) / NULLIF(SUM(a.weight), 0e0) AS z2
      FROM #sqlkmeans_moved AS a
      GROUP BY a.cluster
      HAVING SUM(a.weight) > 1e-12 * MAX(a.weight)) AS m WHERE m.cluster = o.cluster)) AS e
        ON e.cluster = c.cluster
    INNER JOIN (SELECT d.z1, d.z2,
                    ROW_NUMBER() OVER (ORDER BY d.squared DESC, d.row_number) AS place
                FROM (SELECT r.[sqlkmeans z1] AS z1, r.[sqlkmeans z2] AS z2, r.[sqlkmeans row] AS row_number, n.squared
                      FROM #sqlkmeans_border AS r
                      CROSS APPLY (SELECT TOP (1) (r.[sqlkmeans z1] - o.z1) * (r.[sqlkmeans z1] - o.z1) + (r.[sqlkmeans z2] - o.z2) * (r.[sqlkmeans z2] - o.z2) AS squared
                                   FROM #sqlkmeans_centroid AS o
                                   WHERE o.cluster > 0
                                   ORDER BY squared) AS n
                      WHERE r.[sqlkmeans weight] > 0e0) AS d) AS f
        ON f.place = e.place;
END;
SELECT @drift = SQRT(MAX((c.z1 - e.z1) * (c.z1 - e.z1) + (c.z2 - e.z2) * (c.z2 - e.z2)))
FROM #sqlkmeans_centroid AS c
INNER JOIN #sqlkmeans_centroid AS e ON e.cluster = -c.cluster
WHERE c.cluster > 0;
SET @passes = @passes + 1;
END;
GO
DECLARE @c0_1 float, @c0_2 float, @c1_1 float, @c1_2 float, @c2_1 float, @c2_2 float, @c3_1 float, @c3_2 float;
SELECT @c0_1 = SUM(CASE c.cluster WHEN 0 THEN c.z1 ELSE 0e0 END), @c0_2 = SUM(CASE c.cluster WHEN 0 THEN c.z2 ELSE 0e0 END), @c1_1 = SUM(CASE c.cluster WHEN 1 THEN c.z1 ELSE 0e0 END), @c1_2 = SUM(CASE c.cluster WHEN 1 THEN c.z2 ELSE 0e0 END), @c2_1 = SUM(CASE c.cluster WHEN 2 THEN c.z1 ELSE 0e0 END), @c2_2 = SUM(CASE c.cluster WHEN 2 THEN c.z2 ELSE 0e0 END), @c3_1 = SUM(CASE c.cluster WHEN 3 THEN c.z1 ELSE 0e0 END), @c3_2 = SUM(CASE c.cluster WHEN 3 THEN c.z2 ELSE 0e0 END)
FROM #sqlkmeans_centroid AS c;
INSERT INTO #sqlkmeans_moved (kept, cluster, previous, customers, weight, squares, z1, z2)
SELECT 1, n.cluster, r.[sqlkmeans previous], COUNT_BIG(*), SUM(r.[sqlkmeans weight]), SUM(r.[sqlkmeans weight] * ((r.[sqlkmeans z1] - @c0_1) * (r.[sqlkmeans z1] - @c0_1) + (r.[sqlkmeans z2] - @c0_2) * (r.[sqlkmeans z2] - @c0_2))),
    SUM(r.[sqlkmeans weight] * (r.[sqlkmeans z1] - @c0_1)), SUM(r.[sqlkmeans weight] * (r.[sqlkmeans z2] - @c0_2))
FROM #sqlkmeans_border AS r
CROSS APPLY (SELECT (r.[sqlkmeans z1] - @c1_1) * (r.[sqlkmeans z1] - @c1_1) + (r.[sqlkmeans z2] - @c1_2) * (r.[sqlkmeans z2] - @c1_2) AS d1, (r.[sqlkmeans z1] - @c2_1) * (r.[sqlkmeans z1] - @c2_1) + (r.[sqlkmeans z2] - @c2_2) * (r.[sqlkmeans z2] - @c2_2) AS d2, (r.[sqlkmeans z1] - @c3_1) * (r.[sqlkmeans z1] - @c3_1) + (r.[sqlkmeans z2] - @c3_2) * (r.[sqlkmeans z2] - @c3_2) AS d3) AS d
CROSS APPLY (SELECT CASE WHEN d.d1 <= d.d2 AND d.d1 <= d.d3 THEN 1 WHEN d.d2 <= d.d3 THEN 2 ELSE 3 END AS cluster) AS n
GROUP BY n.cluster, r.[sqlkmeans previous];
INSERT INTO #sqlkmeans_border (level, [sqlkmeans row], [sqlkmeans previous], [sqlkmeans weight], [sqlkmeans z1], [sqlkmeans z2])
SELECT @level, r.[sqlkmeans row], r.[sqlkmeans previous], r.[sqlkmeans weight], r.[sqlkmeans z1], r.[sqlkmeans z2]
FROM #sqlkmeans_border AS r
CROSS APPLY (SELECT (r.[sqlkmeans z1] - @c1_1) * (r.[sqlkmeans z1] - @c1_1) + (r.[sqlkmeans z2] - @c1_2) * (r.[sqlkmeans z2] - @c1_2) AS d1, (r.[sqlkmeans z1] - @c2_1) * (r.[sqlkmeans z1] - @c2_1) + (r.[sqlkmeans z2] - @c2_2) * (r.[sqlkmeans z2] - @c2_2) AS d2, (r.[sqlkmeans z1] - @c3_1) * (r.[sqlkmeans z1] - @c3_1) + (r.[sqlkmeans z2] - @c3_2) * (r.[sqlkmeans z2] - @c3_2) AS d3) AS d
CROSS APPLY (SELECT CASE WHEN d.d1 <= d.d2 AND d.d1 <= d.d3 THEN 1 WHEN d.d2 <= d.d3 THEN 2 ELSE 3 END AS cluster) AS n
INNER JOIN #sqlkmeans_centroid AS o ON o.cluster = n.cluster
CROSS APPLY (SELECT SQRT((r.[sqlkmeans z1] - o.z1) * (r.[sqlkmeans z1] - o.z1) + (r.[sqlkmeans z2] - o.z2) * (r.[sqlkmeans z2] - o.z2)) + @margin AS reach) AS q
WHERE CASE WHEN (r.[sqlkmeans z1] - @c1_1) * (r.[sqlkmeans z1] - @c1_1) + (r.[sqlkmeans z2] - @c1_2) * (r.[sqlkmeans z2] - @c1_2) <= q.reach * q.reach THEN 1 ELSE 0 END + CASE WHEN (r.[sqlkmeans z1] - @c2_1) * (r.[sqlkmeans z1] - @c2_1) + (r.[sqlkmeans z2] - @c2_2) * (r.[sqlkmeans z2] - @c2_2) <= q.reach * q.reach THEN 1 ELSE 0 END + CASE WHEN (r.[sqlkmeans z1] - @c3_1) * (r.[sqlkmeans z1] - @c3_1) + (r.[sqlkmeans z2] - @c3_2) * (r.[sqlkmeans z2] - @c3_2) <= q.reach * q.reach THEN 1 ELSE 0 END > 1;
DELETE FROM #sqlkmeans_border WHERE level < @level;
INSERT INTO #sqlkmeans_moved (kept, cluster, previous, customers, weight, squares, z1, z2)
SELECT 1, n.cluster, r.[sqlkmeans previous], -COUNT_BIG(*), -SUM(r.[sqlkmeans weight]), -SUM(r.[sqlkmeans weight] * ((r.[sqlkmeans z1] - @c0_1) * (r.[sqlkmeans z1] - @c0_1) + (r.[sqlkmeans z2] - @c0_2) * (r.[sqlkmeans z2] - @c0_2))),
    -SUM(r.[sqlkmeans weight] * (r.[sqlkmeans z1] - @c0_1)), -SUM(r.[sqlkmeans weight] * (r.[sqlkmeans z2] - @c0_2))
FROM #sqlkmeans_border AS r
CROSS APPLY (SELECT (r.[sqlkmeans z1] - @c1_1) * (r.[sqlkmeans z1] - @c1_1) + (r.[sqlkmeans z2] - @c1_2) * (r.[sqlkmeans z2] - @c1_2) AS d1, (r.[sqlkmeans z1] - @c2_1) * (r.[sqlkmeans z1] - @c2_1) + (r.[sqlkmeans z2] - @c2_2) * (r.[sqlkmeans z2] - @c2_2) AS d2, (r.[sqlkmeans z1] - @c3_1) * (r.[sqlkmeans z1] - @c3_1) + (r.[sqlkmeans z2] - @c3_2) * (r.[sqlkmeans z2] - @c3_2) AS d3) AS d
CROSS APPLY (SELECT CASE WHEN d.d1 <= d.d2 AND d.d1 <= d.d3 THEN 1 WHEN d.d2 <= d.d3 THEN 2 ELSE 3 END AS cluster) AS n
GROUP BY n.cluster, r.[sqlkmeans previous];
DELETE FROM #sqlkmeans_centroid WHERE cluster < 0;
INSERT INTO #sqlkmeans_centroid (cluster, z1, z2)
SELECT -cluster, z1, z2 FROM #sqlkmeans_centroid WHERE cluster > 0;
GO
DELETE FROM #sqlkmeans_centroid;
INSERT INTO #sqlkmeans_centroid (cluster, z1, z2)
SELECT p.cluster, MAX(CASE p.position WHEN 1 THEN p.scaled_value END), MAX(CASE p.position WHEN 2 THEN p.scaled_value END)
FROM #sqlkmeans_point AS p GROUP BY p.cluster;
DECLARE @c0_1 float, @c0_2 float, @c1_1 float, @c1_2 float, @c2_1 float, @c2_2 float, @c3_1 float, @c3_2 float;
SELECT @c0_1 = SUM(CASE c.cluster WHEN 0 THEN c.z1 ELSE 0e0 END), @c0_2 = SUM(CASE c.cluster WHEN 0 THEN c.z2 ELSE 0e0 END), @c1_1 = SUM(CASE c.cluster WHEN 1 THEN c.z1 ELSE 0e0 END), @c1_2 = SUM(CASE c.cluster WHEN 1 THEN c.z2 ELSE 0e0 END), @c2_1 = SUM(CASE c.cluster WHEN 2 THEN c.z1 ELSE 0e0 END), @c2_2 = SUM(CASE c.cluster WHEN 2 THEN c.z2 ELSE 0e0 END), @c3_1 = SUM(CASE c.cluster WHEN 3 THEN c.z1 ELSE 0e0 END), @c3_2 = SUM(CASE c.cluster WHEN 3 THEN c.z2 ELSE 0e0 END)
FROM #sqlkmeans_centroid AS c;
INSERT INTO #sqlkmeans_scored WITH (TABLOCK) ([id], [sqlkmeans previous], [sqlkmeans before], [sqlkmeans flagged], [sqlkmeans weight], [sqlkmeans o1], [sqlkmeans o2], [sqlkmeans cluster], [sqlkmeans distance])
SELECT r.[id], r.[sqlkmeans previous], r.[sqlkmeans before], r.[sqlkmeans flagged], r.[sqlkmeans weight], r.[sqlkmeans o1], r.[sqlkmeans o2], c.cluster, SQRT((r.[sqlkmeans z1] - c.z1) * (r.[sqlkmeans z1] - c.z1) + (r.[sqlkmeans z2] - c.z2) * (r.[sqlkmeans z2] - c.z2))
FROM #sqlkmeans_prepared AS r
CROSS APPLY (SELECT (r.[sqlkmeans z1] - @c1_1) * (r.[sqlkmeans z1] - @c1_1) + (r.[sqlkmeans z2] - @c1_2) * (r.[sqlkmeans z2] - @c1_2) AS d1, (r.[sqlkmeans z1] - @c2_1) * (r.[sqlkmeans z1] - @c2_1) + (r.[sqlkmeans z2] - @c2_2) * (r.[sqlkmeans z2] - @c2_2) AS d2, (r.[sqlkmeans z1] - @c3_1) * (r.[sqlkmeans z1] - @c3_1) + (r.[sqlkmeans z2] - @c3_2) * (r.[sqlkmeans z2] - @c3_2) AS d3) AS d
CROSS APPLY (SELECT CASE WHEN d.d1 <= d.d2 AND d.d1 <= d.d3 THEN 1 WHEN d.d2 <= d.d3 THEN 2 ELSE 3 END AS cluster) AS n
INNER JOIN #sqlkmeans_centroid AS c ON c.cluster = n.cluster
WHERE r.[sqlkmeans z1] IS NOT NULL AND r.[sqlkmeans z2] IS NOT NULL;
SET @rows = ROWCOUNT_BIG();
GO
SELECT s.[sqlkmeans cluster] AS cluster, s.[sqlkmeans previous] AS previous,
    COUNT_BIG(*) AS customers, SUM(s.[sqlkmeans distance]) AS distance,
    SUM(s.[sqlkmeans distance] * s.[sqlkmeans distance]) AS within_ss,
    SUM(s.[sqlkmeans weight] * s.[sqlkmeans distance] * s.[sqlkmeans distance]) AS inertia,
    SUM(s.[sqlkmeans weight]) AS weight, COUNT_BIG(s.[sqlkmeans o1]) AS n1, SUM(s.[sqlkmeans o1] - p.c1) AS s1, SUM((s.[sqlkmeans o1] - p.c1) * (s.[sqlkmeans o1] - p.c1)) AS q1, MIN(s.[sqlkmeans o1]) AS l1, MAX(s.[sqlkmeans o1]) AS h1, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_1, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_2, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_3, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_4, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_5, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_6, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_7, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_8, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_9, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] < p.cl1 THEN 1 END) AS cb1, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] < p.el1 THEN 1 END) AS eb1, COUNT_BIG(s.[sqlkmeans o2]) AS n2, SUM(s.[sqlkmeans o2] - p.c2) AS s2, SUM((s.[sqlkmeans o2] - p.c2) * (s.[sqlkmeans o2] - p.c2)) AS q2, MIN(s.[sqlkmeans o2]) AS l2, MAX(s.[sqlkmeans o2]) AS h2, COUNT_BIG(CASE WHEN s.[sqlkmeans o2] <= 0.5e0 THEN 1 END) AS e2_1, COUNT_BIG(CASE WHEN s.[sqlkmeans o2] <= 0.5e0 THEN 1 END) AS e2_2, COUNT_BIG(CASE WHEN s.[sqlkmeans o2] <= 0.5e0 THEN 1 END) AS e2_3, COUNT_BIG(CASE WHEN s.[sqlkmeans o2] <= 0.5e0 THEN 1 END) AS e2_4, COUNT_BIG(CASE WHEN s.[sqlkmeans o2] <= 0.5e0 THEN 1 END) AS e2_5, COUNT_BIG(CASE WHEN s.[sqlkmeans o2] <= 0.5e0 THEN 1 END) AS e2_6, COUNT_BIG(CASE WHEN s.[sqlkmeans o2] <= 0.5e0 THEN 1 END) AS e2_7, COUNT_BIG(CASE WHEN s.[sqlkmeans o2] <= 0.5e0 THEN 1 END) AS e2_8, COUNT_BIG(CASE WHEN s.[sqlkmeans o2] <= 0.5e0 THEN 1 END) AS e2_9, COUNT_BIG(CASE WHEN s.[sqlkmeans o2] < p.cl2 THEN 1 END) AS cb2, COUNT_BIG(CASE WHEN s.[sqlkmeans o2] < p.el2 THEN 1 END) AS eb2
INTO #sqlkmeans_wide
 FROM #sqlkmeans_scored AS s
INNER JOIN (SELECT a.cluster, MAX(CASE a.position WHEN 1 THEN a.value END) AS c1, MAX(CASE WHEN a.position = 1 AND b.cluster > 0 THEN b.low END) AS cl1, MAX(CASE WHEN a.position = 1 AND b.cluster > 0 THEN b.high END) AS ch1, MAX(CASE WHEN a.position = 1 AND b.cluster = 0 THEN b.low END) AS el1, MAX(CASE WHEN a.position = 1 AND b.cluster = 0 THEN b.high END) AS eh1, MAX(CASE a.position WHEN 2 THEN a.value END) AS c2, MAX(CASE WHEN a.position = 2 AND b.cluster > 0 THEN b.low END) AS cl2, MAX(CASE WHEN a.position = 2 AND b.cluster > 0 THEN b.high END) AS ch2, MAX(CASE WHEN a.position = 2 AND b.cluster = 0 THEN b.low END) AS el2, MAX(CASE WHEN a.position = 2 AND b.cluster = 0 THEN b.high END) AS eh2 FROM #sqlkmeans_point AS a
            LEFT JOIN #sqlkmeans_bracket AS b
                ON b.position = a.position AND b.cluster IN (0, a.cluster)
            GROUP BY a.cluster) AS p
    ON p.cluster = s.[sqlkmeans cluster]
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
      CROSS APPLY (VALUES (1, w.n1, w.s1, w.q1, w.l1, w.h1), (2, w.n2, w.s2, w.q2, w.l2, w.h2)) AS v (position, known, total, squares, lowest, highest)
      GROUP BY w.cluster, v.position) AS m
INNER JOIN #sqlkmeans_point AS p ON p.cluster = m.cluster AND p.position = m.position;
UPDATE e
SET customers = n.customers
FROM #sqlkmeans_edge AS e
INNER JOIN (SELECT v.position, v.number, SUM(v.customers) AS customers
            FROM #sqlkmeans_wide AS w
            CROSS APPLY (VALUES (1, 1, w.e1_1), (1, 2, w.e1_2), (1, 3, w.e1_3), (1, 4, w.e1_4), (1, 5, w.e1_5), (1, 6, w.e1_6), (1, 7, w.e1_7), (1, 8, w.e1_8), (1, 9, w.e1_9), (2, 1, w.e2_1), (2, 2, w.e2_2), (2, 3, w.e2_3), (2, 4, w.e2_4), (2, 5, w.e2_5), (2, 6, w.e2_6), (2, 7, w.e2_7), (2, 8, w.e2_8), (2, 9, w.e2_9)) AS v (position, number, customers)
            GROUP BY v.position, v.number) AS n
    ON n.position = e.position AND n.number = e.number;
UPDATE b
SET below = n.customers
FROM #sqlkmeans_bracket AS b
INNER JOIN (SELECT v.cluster, v.position, SUM(v.customers) AS customers
            FROM #sqlkmeans_wide AS w
            CROSS APPLY (VALUES (w.cluster, 1, w.cb1), (0, 1, w.eb1), (w.cluster, 2, w.cb2), (0, 2, w.eb2)) AS v (cluster, position, customers)
            GROUP BY v.cluster, v.position) AS n
    ON n.cluster = b.cluster AND n.position = b.position;
INSERT INTO #sqlkmeans_near (cluster, position, value, customers)
SELECT v.cluster, v.position, v.value, COUNT_BIG(*)
 FROM #sqlkmeans_scored AS s
INNER JOIN (SELECT a.cluster, MAX(CASE a.position WHEN 1 THEN a.value END) AS c1, MAX(CASE WHEN a.position = 1 AND b.cluster > 0 THEN b.low END) AS cl1, MAX(CASE WHEN a.position = 1 AND b.cluster > 0 THEN b.high END) AS ch1, MAX(CASE WHEN a.position = 1 AND b.cluster = 0 THEN b.low END) AS el1, MAX(CASE WHEN a.position = 1 AND b.cluster = 0 THEN b.high END) AS eh1, MAX(CASE a.position WHEN 2 THEN a.value END) AS c2, MAX(CASE WHEN a.position = 2 AND b.cluster > 0 THEN b.low END) AS cl2, MAX(CASE WHEN a.position = 2 AND b.cluster > 0 THEN b.high END) AS ch2, MAX(CASE WHEN a.position = 2 AND b.cluster = 0 THEN b.low END) AS el2, MAX(CASE WHEN a.position = 2 AND b.cluster = 0 THEN b.high END) AS eh2 FROM #sqlkmeans_point AS a
            LEFT JOIN #sqlkmeans_bracket AS b
                ON b.position = a.position AND b.cluster IN (0, a.cluster)
            GROUP BY a.cluster) AS p
    ON p.cluster = s.[sqlkmeans cluster]
CROSS APPLY (VALUES (s.[sqlkmeans cluster], 1, s.[sqlkmeans o1], p.cl1, p.ch1), (0, 1, s.[sqlkmeans o1], p.el1, p.eh1), (s.[sqlkmeans cluster], 2, s.[sqlkmeans o2], p.cl2, p.ch2), (0, 2, s.[sqlkmeans o2], p.el2, p.eh2)) AS v (cluster, position, value, low, high)
WHERE (s.[sqlkmeans o1] BETWEEN p.cl1 AND p.ch1 OR s.[sqlkmeans o1] BETWEEN p.el1 AND p.eh1 OR s.[sqlkmeans o2] BETWEEN p.cl2 AND p.ch2 OR s.[sqlkmeans o2] BETWEEN p.el2 AND p.eh2) AND v.value BETWEEN v.low AND v.high
GROUP BY v.cluster, v.position, v.value;
DROP TABLE #sqlkmeans_wide;
GO
INSERT INTO sqlkmeans.[staging_1] WITH (TABLOCK) ([id], cluster, distance)
SELECT s.[id], s.segment_id, s.distance
FROM (SELECT s.[id], c.segment_id,
    s.[sqlkmeans distance] AS distance, s.[sqlkmeans previous], s.[sqlkmeans before], s.[sqlkmeans flagged]
FROM #sqlkmeans_scored AS s
INNER JOIN #sqlkmeans_cluster AS c ON c.cluster = s.[sqlkmeans cluster]) AS s
LEFT JOIN #sqlkmeans_limit AS o ON o.segment_id = s.segment_id
CROSS APPLY (SELECT CASE WHEN s.distance > o.outlier_distance THEN 1 ELSE 0 END AS is_outlier) AS f
WHERE s.[sqlkmeans previous] IS NULL OR s.[sqlkmeans previous] <> s.segment_id
   OR ABS(s.distance - s.[sqlkmeans before]) > @tolerance OR f.is_outlier <> s.[sqlkmeans flagged]
   OR f.is_outlier <> CASE WHEN s.[sqlkmeans before] > o.outlier_distance THEN 1 ELSE 0 END;
SET @staged = ROWCOUNT_BIG();
GO
SELECT @arrived = OBJECT_ID(N'[dbo].[square_segment]'), @moved = OBJECT_ID(N'[dbo].[square_segment_history]'), @departed = OBJECT_ID(N'[dbo].[square_segment_named]');
GO
CREATE TABLE [dbo].[square_segment_history] ([id] int NOT NULL, segment_id int NOT NULL, distance float NOT NULL, is_outlier bit NOT NULL, valid_from datetime2(6) NOT NULL, valid_to datetime2(6) NULL, run_id bigint NOT NULL, PRIMARY KEY CLUSTERED ([id], valid_from));
GO
DECLARE @value nvarchar(128) = @text;
DECLARE @schema nvarchar(128) = N'dbo';
DECLARE @object nvarchar(128) = N'square_segment_history';
EXECUTE sys.sp_addextendedproperty @name = N'sqlkmeans', @value = @value,
    @level0type = N'SCHEMA', @level0name = @schema,
    @level1type = N'TABLE', @level1name = @object;
GRANT SELECT ON [dbo].[square_segment_history] TO sqlkmeans_reader;
GO
UPDATE [dbo].[square_segment_history] SET valid_to = @now WHERE valid_to IS NULL;
GO
CREATE TABLE [dbo].[square_segment] ([id] int NOT NULL, segment_id int NOT NULL, distance float NOT NULL, is_outlier bit NOT NULL, run_id bigint NOT NULL, assigned_at datetime2(6) NOT NULL, PRIMARY KEY CLUSTERED ([id]));
GO
DECLARE @value nvarchar(128) = @text;
DECLARE @schema nvarchar(128) = N'dbo';
DECLARE @object nvarchar(128) = N'square_segment';
EXECUTE sys.sp_addextendedproperty @name = N'sqlkmeans', @value = @value,
    @level0type = N'SCHEMA', @level0name = @schema,
    @level1type = N'TABLE', @level1name = @object;
GRANT SELECT ON [dbo].[square_segment] TO sqlkmeans_reader;
GO
CREATE VIEW [dbo].[square_segment_named] AS SELECT t.[id], t.segment_id, t.distance, t.is_outlier, t.run_id, t.assigned_at, s.name AS segment_name FROM [dbo].[square_segment] AS t INNER JOIN sqlkmeans.segmentation AS g ON g.name = N'square' LEFT JOIN sqlkmeans.segment AS s ON s.run_id = g.active_run_id AND s.segment_id = t.segment_id;
GO
DECLARE @value nvarchar(128) = @text;
DECLARE @schema nvarchar(128) = N'dbo';
DECLARE @object nvarchar(128) = N'square_segment_named';
EXECUTE sys.sp_addextendedproperty @name = N'sqlkmeans', @value = @value,
    @level0type = N'SCHEMA', @level0name = @schema,
    @level1type = N'VIEW', @level1name = @object;
GRANT SELECT ON [dbo].[square_segment_named] TO sqlkmeans_reader;
GO
SELECT @moved = COUNT_BIG(*) FROM (SELECT DISTINCT l.cluster FROM sqlkmeans.[staging_1] AS l WHERE l.departed = 0) AS s WHERE NOT EXISTS (SELECT 1 FROM OPENJSON(@text) AS j WHERE CAST(j.[key] AS int) = s.cluster);
SELECT @arrived = COUNT_BIG(*) FROM (SELECT TOP (1) 1 AS one FROM [dbo].[square_segment]) AS t;
GO
SET NOCOUNT ON;
CREATE TABLE #sqlkmeans_cluster_segment
    (cluster int NOT NULL PRIMARY KEY, segment_id int NOT NULL, outlier_distance float NULL);
INSERT INTO #sqlkmeans_cluster_segment (cluster, segment_id, outlier_distance)
SELECT CAST(j.[key] AS int), CAST(j.[value] AS int), o.outlier_distance
FROM OPENJSON(@text) AS j
LEFT JOIN #sqlkmeans_outlier AS o ON o.segment_id = CAST(j.[value] AS int);
UPDATE [dbo].[square_segment_history] SET valid_to = @now WHERE valid_to IS NULL;
INSERT INTO [dbo].[square_segment] WITH (TABLOCK) ([id], segment_id, distance, is_outlier, run_id, assigned_at)
SELECT s.[id], l.segment_id, s.distance, f.is_outlier, @run_id, @now
FROM sqlkmeans.[staging_1] AS s
INNER JOIN #sqlkmeans_cluster_segment AS l ON l.cluster = s.cluster
CROSS APPLY (SELECT COALESCE(s.is_outlier,
    CASE WHEN s.distance > l.outlier_distance THEN 1 ELSE 0 END) AS is_outlier) AS f
WHERE s.departed = 0
ORDER BY s.[id];
SET @arrived = ROWCOUNT_BIG();
INSERT INTO [dbo].[square_segment_history] WITH (TABLOCK) ([id], segment_id, distance, is_outlier, valid_from, valid_to, run_id)
SELECT t.[id], t.segment_id, t.distance, t.is_outlier, @now, NULL, @run_id
FROM [dbo].[square_segment] AS t
ORDER BY t.[id];
SET @moved = 0;
SET @departed = 0;
SET @written = @arrived;
DROP TABLE #sqlkmeans_cluster_segment;
GO
INSERT INTO #sqlkmeans_held (segment_id, size) SELECT t.segment_id, COUNT_BIG(*) FROM [dbo].[square_segment] AS t GROUP BY t.segment_id;
GO
CREATE FUNCTION sqlkmeans.[assign_square] (@x float, @y float)
RETURNS TABLE
AS
RETURN (
SELECT n.segment_id, n.segment_name, SQRT(n.squared_distance) AS distance,
    (SELECT SQRT(MIN(d.squared_distance))
FROM (VALUES
    (1, N'high x', CAST(NULL AS float), 0.5e0, 0.5e0),
    (2, N'low y, low x', CAST(NULL AS float), 0.5e0, 0.5e0),
    (3, N'high y, low x', CAST(NULL AS float), 0.5e0, 0.5e0)) AS c (segment_id, segment_name, outlier_distance, c1, c2)
CROSS APPLY (SELECT (z.z1 - c.c1) * (z.z1 - c.c1) + (z.z2 - c.c2) * (z.z2 - c.c2) AS squared_distance) AS d
WHERE c.segment_id <> n.segment_id) AS runner_up_distance,
    CAST(CASE WHEN SQRT(n.squared_distance) > n.outlier_distance THEN 1
              WHEN n.segment_id IS NOT NULL THEN 0 END AS bit) AS is_outlier
FROM (SELECT @x AS o1, @y AS o2) AS o
CROSS APPLY (SELECT o.o1 AS x1, o.o2 AS x2) AS x
CROSS APPLY (SELECT x.x1 AS t1, x.x2 AS t2) AS t
CROSS APPLY (SELECT (t.t1 - (0.5e0)) / 0.5e0 AS z1, (t.t2 - (0.5e0)) / 0.5e0 AS z2) AS z
OUTER APPLY (SELECT TOP (1) c.segment_id, c.segment_name, c.outlier_distance,
    d.squared_distance
FROM (VALUES
    (1, N'high x', CAST(NULL AS float), 0.5e0, 0.5e0),
    (2, N'low y, low x', CAST(NULL AS float), 0.5e0, 0.5e0),
    (3, N'high y, low x', CAST(NULL AS float), 0.5e0, 0.5e0)) AS c (segment_id, segment_name, outlier_distance, c1, c2)
CROSS APPLY (SELECT (z.z1 - c.c1) * (z.z1 - c.c1) + (z.z2 - c.c2) * (z.z2 - c.c2) AS squared_distance) AS d
WHERE d.squared_distance IS NOT NULL
ORDER BY d.squared_distance, c.segment_id) AS n
);
GO
CREATE FUNCTION sqlkmeans.[explain_square] (@x float, @y float)
RETURNS TABLE
AS
RETURN (
WITH feature AS
(
    SELECT v.position, m.feature, v.given, COALESCE(v.given, m.fill) AS start, v.z, m.low, m.high,
        CASE WHEN m.type = N'date' THEN CAST(DATEDIFF(day, '99991231', m.reference_date) AS float)
             WHEN w.is_whole = 1 AND w.least = 0e0 AND w.most = 1e0 THEN 0e0 END AS least,
        CASE WHEN m.type = N'date' THEN CAST(DATEDIFF(day, '00010101', m.reference_date) AS float)
             WHEN w.is_whole = 1 AND w.least = 0e0 AND w.most = 1e0 THEN 1e0 END AS most,
        CASE m.transform WHEN N'log1p' THEN 1 ELSE 0 END AS is_log, m.center,
        m.scale / m.weight AS divisor,
        CASE WHEN m.type = N'date' OR w.is_whole = 1 THEN 1 ELSE 0 END AS is_whole,
        CASE WHEN m.type = N'date' THEN m.reference_date END AS reference_date,
        CASE WHEN m.type = N'category' THEN COALESCE(m.level, N'(other)') END AS level
    FROM (SELECT @x AS o1, @y AS o2) AS o
    CROSS APPLY (SELECT o.o1 AS x1, o.o2 AS x2) AS x
CROSS APPLY (SELECT x.x1 AS t1, x.x2 AS t2) AS t
CROSS APPLY (SELECT (t.t1 - (0.5e0)) / 0.5e0 AS z1, (t.t2 - (0.5e0)) / 0.5e0 AS z2) AS z
    CROSS APPLY (VALUES (1, @x, z.z1), (2, @y, z.z2)) AS v (position, given, z)
    INNER JOIN sqlkmeans.model_feature AS m ON m.run_id = 1 AND m.position = v.position
    LEFT JOIN (
        SELECT s.position, MIN(s.[min]) AS least, MAX(s.[max]) AS most,
            MIN(CASE WHEN s.[min] = FLOOR(s.[min]) AND s.[max] = FLOOR(s.[max])
                      AND 2e0 * s.median = FLOOR(2e0 * s.median) THEN 1 ELSE 0 END) AS is_whole
        FROM sqlkmeans.segment_feature AS s
        WHERE s.run_id = 1
        GROUP BY s.position
    ) AS w ON w.position = v.position
),
centroid AS
(
    SELECT c.segment_id, c.position, c.scaled_value AS value
    FROM sqlkmeans.centroid AS c
    WHERE c.run_id = 1
),
distance AS
(
    SELECT c.segment_id, SUM((f.z - c.value) * (f.z - c.value)) AS squared
    FROM feature AS f
    INNER JOIN centroid AS c ON c.position = f.position
    GROUP BY c.segment_id
),
decided AS
(
    SELECT TOP (1) n.segment_id, n.segment_name, d.squared, o.segment_id AS runner_up_id, o.squared AS far
    FROM sqlkmeans.[assign_square](@x, @y) AS n
    INNER JOIN distance AS d ON d.segment_id = n.segment_id
    INNER JOIN distance AS o ON o.segment_id <> n.segment_id
    ORDER BY o.squared, o.segment_id
),
compared AS
(
    SELECT f.position, f.feature, f.given, f.start, f.z, f.low, f.high, f.least, f.most, f.is_log,
        f.center, f.divisor, f.is_whole, f.reference_date, f.level, g.segment_id, g.segment_name,
        g.runner_up_id, g.squared, a.value AS own_value,
        (f.z - r.value) * (f.z - r.value) - (f.z - a.value) * (f.z - a.value) AS part
    FROM decided AS g
    CROSS JOIN feature AS f
    INNER JOIN centroid AS a ON a.segment_id = g.segment_id AND a.position = f.position
    INNER JOIN centroid AS r ON r.segment_id = g.runner_up_id AND r.position = f.position
),
nearest AS
(
    SELECT p.position, w.new_value
    FROM compared AS p
    CROSS APPLY (
        SELECT TOP (1) y.new_value
        FROM centroid AS c
        INNER JOIN distance AS d ON d.segment_id = c.segment_id
        CROSS APPLY (SELECT c.value - p.own_value AS apart) AS h
        CROSS APPLY (SELECT CASE
                WHEN ABS(h.apart) > 1e-09 * (SQRT(d.squared) + SQRT(p.squared))
                THEN (d.squared - p.squared) / (2e0 * h.apart) END AS step) AS s
        CROSS APPLY (SELECT (p.z + s.step) * p.divisor + p.center AS t,
                p.divisor * (SQRT(p.squared) + ABS(s.step)) AS far) AS b
        CROSS APPLY (SELECT
                CASE WHEN p.is_log = 0 THEN b.t
                     WHEN b.t BETWEEN -30.0e0 AND 36.0e0
                     THEN CASE WHEN EXP(b.t) = 1e0 THEN b.t
                          ELSE (EXP(b.t) - 1e0) * (b.t / LOG(EXP(b.t))) END END AS border,
                CASE WHEN p.is_log = 0 THEN b.far
                     WHEN b.t BETWEEN -30.0e0 AND 36.0e0
                     THEN b.far * EXP(b.t) END AS way) AS x
        CROSS APPLY (SELECT CASE WHEN p.is_whole = 1 THEN 0e0
                WHEN 0.001e0 * x.way + 1e-10 * ABS(x.border) > 1e-290
                THEN FLOOR(LOG10(0.001e0 * x.way + 1e-10 * ABS(x.border))) END AS power) AS e
        CROSS APPLY (SELECT POWER(10e0, CASE WHEN e.power > 0e0 THEN e.power ELSE 0e0 END) AS unit,
                POWER(10e0, CASE WHEN e.power < 0e0 THEN -e.power ELSE 0e0 END) AS parts) AS u
        CROSS APPLY (SELECT CASE p.is_whole
                WHEN 1 THEN 1e-06 * x.way + 1e-10 * ABS(x.border)
                ELSE 0.001e0 * u.unit / u.parts END AS clear) AS q
        CROSS APPLY (SELECT CASE WHEN h.apart > 0e0
                THEN (FLOOR((x.border + q.clear) / u.unit * u.parts) + 1e0) / u.parts * u.unit
                ELSE (CEILING((x.border - q.clear) / u.unit * u.parts) - 1e0) / u.parts * u.unit
                END AS new_value) AS y
        WHERE c.position = p.position AND c.segment_id <> p.segment_id AND p.level IS NULL
          AND ABS(h.apart) * 1000000.0e0 > SQRT(p.squared) + ABS(s.step)
          AND (p.is_log = 0 OR y.new_value > -1e0)
          AND (p.least IS NULL OR y.new_value BETWEEN p.least AND p.most)
          AND (p.low IS NULL OR (h.apart > 0e0 AND x.border < p.high)
               OR (h.apart < 0e0 AND x.border > p.low))
        ORDER BY ABS(y.new_value - p.start), y.new_value DESC
    ) AS w
),
proposed AS
(
    SELECT p.position, MAX(w.new_value) AS new_value,
        MAX(CASE WHEN p.position BETWEEN 1 AND 1 THEN w.new_value ELSE @x END) AS v1, MAX(CASE WHEN p.position BETWEEN 2 AND 2 THEN w.new_value ELSE @y END) AS v2
    FROM compared AS p
    LEFT JOIN nearest AS w ON w.position = p.position
    WHERE w.new_value IS NOT NULL OR (p.level IS NOT NULL AND p.given = 0e0)
    GROUP BY p.position
)
SELECT p.position, p.feature, p.segment_id, p.segment_name, p.runner_up_id,
    CASE WHEN SUM(p.part) OVER () > 0e0 THEN p.part / SUM(p.part) OVER () ELSE 0e0
        END AS contribution,
    CASE WHEN p.reference_date IS NULL THEN m.new_value END AS new_value,
    DATEADD(day, -CAST(CASE WHEN p.reference_date IS NOT NULL THEN m.new_value END AS int), p.reference_date) AS new_date,
    CASE WHEN m.segment_id IS NOT NULL THEN p.level END AS new_level,
    CASE WHEN p.reference_date IS NULL THEN m.new_value - p.given ELSE p.given - m.new_value
        END AS difference,
    m.segment_id AS new_segment_id, m.segment_name AS new_segment_name
FROM compared AS p
LEFT JOIN (
    SELECT v.position, v.new_value, n.segment_id, n.segment_name
    FROM proposed AS v
    CROSS APPLY sqlkmeans.[assign_square](v.v1, v.v2) AS n
) AS m ON m.position = p.position AND m.segment_id <> p.segment_id
);
GO
CREATE VIEW sqlkmeans.segment_movement AS
SELECT a.segmentation, a.run_id AS from_run_id, b.run_id AS to_run_id,
    m.from_segment_id, m.to_segment_id, m.customers
FROM sqlkmeans.run AS a
INNER JOIN sqlkmeans.run AS b ON b.segmentation = a.segmentation AND b.published_at > a.published_at
CROSS APPLY (
    SELECT c.from_segment_id, c.to_segment_id, COUNT_BIG(*) AS customers
    FROM (
        SELECT MAX(v.from_segment_id) AS from_segment_id, MAX(v.to_segment_id) AS to_segment_id
        FROM [dbo].[customer_segment_history] AS h
        CROSS APPLY (
            SELECT
                CASE WHEN h.valid_from <= a.published_at
                      AND (h.valid_to IS NULL OR h.valid_to > a.published_at)
                     THEN h.segment_id END AS from_segment_id,
                CASE WHEN h.valid_from <= b.published_at
                      AND (h.valid_to IS NULL OR h.valid_to > b.published_at)
                     THEN h.segment_id END AS to_segment_id
        ) AS v
        GROUP BY h.[customer_id]
    ) AS c
    WHERE c.from_segment_id IS NOT NULL OR c.to_segment_id IS NOT NULL
    GROUP BY c.from_segment_id, c.to_segment_id
) AS m
WHERE a.segmentation = N'customers' AND a.status = N'published' AND b.status = N'published'
UNION ALL
SELECT a.segmentation, a.run_id AS from_run_id, b.run_id AS to_run_id,
    m.from_segment_id, m.to_segment_id, m.customers
FROM sqlkmeans.run AS a
INNER JOIN sqlkmeans.run AS b ON b.segmentation = a.segmentation AND b.published_at > a.published_at
CROSS APPLY (
    SELECT c.from_segment_id, c.to_segment_id, COUNT_BIG(*) AS customers
    FROM (
        SELECT MAX(v.from_segment_id) AS from_segment_id, MAX(v.to_segment_id) AS to_segment_id
        FROM [dbo].[square_segment_history] AS h
        CROSS APPLY (
            SELECT
                CASE WHEN h.valid_from <= a.published_at
                      AND (h.valid_to IS NULL OR h.valid_to > a.published_at)
                     THEN h.segment_id END AS from_segment_id,
                CASE WHEN h.valid_from <= b.published_at
                      AND (h.valid_to IS NULL OR h.valid_to > b.published_at)
                     THEN h.segment_id END AS to_segment_id
        ) AS v
        GROUP BY h.[id]
    ) AS c
    WHERE c.from_segment_id IS NOT NULL OR c.to_segment_id IS NOT NULL
    GROUP BY c.from_segment_id, c.to_segment_id
) AS m
WHERE a.segmentation = N'square' AND a.status = N'published' AND b.status = N'published';
GO
CREATE TABLE sqlkmeans.[staging_1] ([person_id] bigint NOT NULL, cluster int NOT NULL, distance float NOT NULL, departed bit NOT NULL DEFAULT (0), is_outlier bit NULL, PRIMARY KEY CLUSTERED ([person_id], departed));
GO
SELECT @arrived = OBJECT_ID(N'[dbo].[person_segment]'), @moved = OBJECT_ID(N'[dbo].[person_segment_history]'), @departed = OBJECT_ID(N'[dbo].[person_segment_named]');
GO
CREATE TABLE [dbo].[person_segment_history] ([person_id] bigint NOT NULL, segment_id int NOT NULL, distance float NOT NULL, is_outlier bit NOT NULL, valid_from datetime2(6) NOT NULL, valid_to datetime2(6) NULL, run_id bigint NOT NULL, PRIMARY KEY CLUSTERED ([person_id], valid_from));
GO
DECLARE @value nvarchar(128) = @text;
DECLARE @schema nvarchar(128) = N'dbo';
DECLARE @object nvarchar(128) = N'person_segment_history';
EXECUTE sys.sp_addextendedproperty @name = N'sqlkmeans', @value = @value,
    @level0type = N'SCHEMA', @level0name = @schema,
    @level1type = N'TABLE', @level1name = @object;
GRANT SELECT ON [dbo].[person_segment_history] TO sqlkmeans_reader;
GO
UPDATE [dbo].[person_segment_history] SET valid_to = @now WHERE valid_to IS NULL;
GO
CREATE TABLE [dbo].[person_segment] ([person_id] bigint NOT NULL, segment_id int NOT NULL, distance float NOT NULL, is_outlier bit NOT NULL, run_id bigint NOT NULL, assigned_at datetime2(6) NOT NULL, PRIMARY KEY CLUSTERED ([person_id]));
GO
DECLARE @value nvarchar(128) = @text;
DECLARE @schema nvarchar(128) = N'dbo';
DECLARE @object nvarchar(128) = N'person_segment';
EXECUTE sys.sp_addextendedproperty @name = N'sqlkmeans', @value = @value,
    @level0type = N'SCHEMA', @level0name = @schema,
    @level1type = N'TABLE', @level1name = @object;
GRANT SELECT ON [dbo].[person_segment] TO sqlkmeans_reader;
GO
CREATE VIEW [dbo].[person_segment_named] AS SELECT t.[person_id], t.segment_id, t.distance, t.is_outlier, t.run_id, t.assigned_at, s.name AS segment_name FROM [dbo].[person_segment] AS t INNER JOIN sqlkmeans.segmentation AS g ON g.name = N'people' LEFT JOIN sqlkmeans.segment AS s ON s.run_id = g.active_run_id AND s.segment_id = t.segment_id;
GO
DECLARE @value nvarchar(128) = @text;
DECLARE @schema nvarchar(128) = N'dbo';
DECLARE @object nvarchar(128) = N'person_segment_named';
EXECUTE sys.sp_addextendedproperty @name = N'sqlkmeans', @value = @value,
    @level0type = N'SCHEMA', @level0name = @schema,
    @level1type = N'VIEW', @level1name = @object;
GRANT SELECT ON [dbo].[person_segment_named] TO sqlkmeans_reader;
GO
SELECT @moved = COUNT_BIG(*) FROM (SELECT DISTINCT l.cluster FROM sqlkmeans.[staging_1] AS l WHERE l.departed = 0) AS s WHERE NOT EXISTS (SELECT 1 FROM OPENJSON(@text) AS j WHERE CAST(j.[key] AS int) = s.cluster);
SELECT @arrived = COUNT_BIG(*) FROM (SELECT TOP (1) 1 AS one FROM [dbo].[person_segment]) AS t;
GO
SET NOCOUNT ON;
CREATE TABLE #sqlkmeans_cluster_segment
    (cluster int NOT NULL PRIMARY KEY, segment_id int NOT NULL, outlier_distance float NULL);
INSERT INTO #sqlkmeans_cluster_segment (cluster, segment_id, outlier_distance)
SELECT CAST(j.[key] AS int), CAST(j.[value] AS int), o.outlier_distance
FROM OPENJSON(@text) AS j
LEFT JOIN #sqlkmeans_outlier AS o ON o.segment_id = CAST(j.[value] AS int);
UPDATE [dbo].[person_segment_history] SET valid_to = @now WHERE valid_to IS NULL;
INSERT INTO [dbo].[person_segment] WITH (TABLOCK) ([person_id], segment_id, distance, is_outlier, run_id, assigned_at)
SELECT s.[person_id], l.segment_id, s.distance, f.is_outlier, @run_id, @now
FROM sqlkmeans.[staging_1] AS s
INNER JOIN #sqlkmeans_cluster_segment AS l ON l.cluster = s.cluster
CROSS APPLY (SELECT COALESCE(s.is_outlier,
    CASE WHEN s.distance > l.outlier_distance THEN 1 ELSE 0 END) AS is_outlier) AS f
WHERE s.departed = 0
ORDER BY s.[person_id];
SET @arrived = ROWCOUNT_BIG();
INSERT INTO [dbo].[person_segment_history] WITH (TABLOCK) ([person_id], segment_id, distance, is_outlier, valid_from, valid_to, run_id)
SELECT t.[person_id], t.segment_id, t.distance, t.is_outlier, @now, NULL, @run_id
FROM [dbo].[person_segment] AS t
ORDER BY t.[person_id];
SET @moved = 0;
SET @departed = 0;
SET @written = @arrived;
DROP TABLE #sqlkmeans_cluster_segment;
GO
CREATE FUNCTION sqlkmeans.[assign_people] (@income float, @feature_2 nvarchar(4000), @joined date, @plan_code nvarchar(4000))
RETURNS TABLE
AS
RETURN (
SELECT n.segment_id, n.segment_name, SQRT(n.squared_distance) AS distance,
    (SELECT SQRT(MIN(d.squared_distance))
FROM (VALUES
    (1, N'name 1', CAST(NULL AS float), 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0),
    (2, N'name 2', CAST(NULL AS float), 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0),
    (3, N'name 3', CAST(NULL AS float), 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0),
    (4, N'name 4', CAST(NULL AS float), 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0)) AS c (segment_id, segment_name, outlier_distance, c1, c2, c3, c4, c5, c6, c7, c8)
CROSS APPLY (SELECT (z.z1 - c.c1) * (z.z1 - c.c1) + (z.z2 - c.c2) * (z.z2 - c.c2) + (z.z3 - c.c3) * (z.z3 - c.c3) + (z.z4 - c.c4) * (z.z4 - c.c4) + (z.z5 - c.c5) * (z.z5 - c.c5) + (z.z6 - c.c6) * (z.z6 - c.c6) + (z.z7 - c.c7) * (z.z7 - c.c7) + (z.z8 - c.c8) * (z.z8 - c.c8) AS squared_distance) AS d
WHERE c.segment_id <> n.segment_id) AS runner_up_distance,
    CAST(CASE WHEN SQRT(n.squared_distance) > n.outlier_distance THEN 1
              WHEN n.segment_id IS NOT NULL THEN 0 END AS bit) AS is_outlier
FROM (SELECT CASE WHEN @income < 0.5e0 THEN 0.5e0 WHEN @income > 0.5e0 THEN 0.5e0 ELSE @income END AS o1, CASE WHEN @feature_2 IS NULL THEN NULL WHEN (@feature_2 + N'.') COLLATE Latin1_General_100_BIN2 IN (N'Oslo.') THEN 1e0 ELSE 0e0 END AS o2, CASE WHEN @feature_2 IS NULL THEN NULL WHEN (@feature_2 + N'.') COLLATE Latin1_General_100_BIN2 IN (N'São Paulo.') THEN 1e0 ELSE 0e0 END AS o3, CASE WHEN @feature_2 IS NULL THEN NULL WHEN (@feature_2 + N'.') COLLATE Latin1_General_100_BIN2 IN (N'it''s.') THEN 1e0 ELSE 0e0 END AS o4, CASE WHEN @feature_2 IS NULL THEN NULL WHEN (@feature_2 + N'.') COLLATE Latin1_General_100_BIN2 IN (N'Oslo.', N'São Paulo.', N'it''s.') THEN 0e0 ELSE 1e0 END AS o5, CASE WHEN CAST(DATEDIFF(day, @joined, '20260101') AS float) < 0.5e0 THEN 0.5e0 WHEN CAST(DATEDIFF(day, @joined, '20260101') AS float) > 0.5e0 THEN 0.5e0 ELSE CAST(DATEDIFF(day, @joined, '20260101') AS float) END AS o6, CASE WHEN @plan_code IS NULL THEN NULL WHEN (@plan_code + N'.') COLLATE Latin1_General_100_BIN2 IN (N'1.') THEN 1e0 ELSE 0e0 END AS o7, CASE WHEN @plan_code IS NULL THEN NULL WHEN (@plan_code + N'.') COLLATE Latin1_General_100_BIN2 IN (N'1.') THEN 0e0 ELSE 1e0 END AS o8) AS o
CROSS APPLY (SELECT COALESCE(o.o1, 0.5e0) AS x1, COALESCE(o.o2, 0.5e0) AS x2, COALESCE(o.o3, 0.5e0) AS x3, COALESCE(o.o4, 0.5e0) AS x4, COALESCE(o.o5, 0.5e0) AS x5, COALESCE(o.o6, 0.5e0) AS x6, COALESCE(o.o7, 0.5e0) AS x7, COALESCE(o.o8, 0.5e0) AS x8) AS x
CROSS APPLY (SELECT CASE WHEN 1e0 + x.x1 = 1e0 THEN x.x1 WHEN x.x1 > -1e0 THEN LOG(1e0 + x.x1) * (x.x1 / ((1e0 + x.x1) - 1e0)) END AS t1, x.x2 AS t2, x.x3 AS t3, x.x4 AS t4, x.x5 AS t5, CASE WHEN 1e0 + x.x6 = 1e0 THEN x.x6 WHEN x.x6 > -1e0 THEN LOG(1e0 + x.x6) * (x.x6 / ((1e0 + x.x6) - 1e0)) END AS t6, x.x7 AS t7, x.x8 AS t8) AS t
CROSS APPLY (SELECT (t.t1 - (0.5e0)) / 0.5e0 AS z1, (t.t2 - (0.5e0)) / 0.5e0 AS z2, (t.t3 - (0.5e0)) / 0.5e0 AS z3, (t.t4 - (0.5e0)) / 0.5e0 AS z4, (t.t5 - (0.5e0)) / 0.5e0 AS z5, (t.t6 - (0.5e0)) / 0.5e0 AS z6, (t.t7 - (0.5e0)) / 0.5e0 AS z7, (t.t8 - (0.5e0)) / 0.5e0 AS z8) AS z
OUTER APPLY (SELECT TOP (1) c.segment_id, c.segment_name, c.outlier_distance,
    d.squared_distance
FROM (VALUES
    (1, N'name 1', CAST(NULL AS float), 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0),
    (2, N'name 2', CAST(NULL AS float), 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0),
    (3, N'name 3', CAST(NULL AS float), 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0),
    (4, N'name 4', CAST(NULL AS float), 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0)) AS c (segment_id, segment_name, outlier_distance, c1, c2, c3, c4, c5, c6, c7, c8)
CROSS APPLY (SELECT (z.z1 - c.c1) * (z.z1 - c.c1) + (z.z2 - c.c2) * (z.z2 - c.c2) + (z.z3 - c.c3) * (z.z3 - c.c3) + (z.z4 - c.c4) * (z.z4 - c.c4) + (z.z5 - c.c5) * (z.z5 - c.c5) + (z.z6 - c.c6) * (z.z6 - c.c6) + (z.z7 - c.c7) * (z.z7 - c.c7) + (z.z8 - c.c8) * (z.z8 - c.c8) AS squared_distance) AS d
WHERE d.squared_distance IS NOT NULL
ORDER BY d.squared_distance, c.segment_id) AS n
);
GO
CREATE FUNCTION sqlkmeans.[explain_people] (@income float, @feature_2 nvarchar(4000), @joined date, @plan_code nvarchar(4000))
RETURNS TABLE
AS
RETURN (
WITH feature AS
(
    SELECT v.position, m.feature, v.given, COALESCE(v.given, m.fill) AS start, v.z, m.low, m.high,
        CASE WHEN m.type = N'date' THEN CAST(DATEDIFF(day, '99991231', m.reference_date) AS float)
             WHEN w.is_whole = 1 AND w.least = 0e0 AND w.most = 1e0 THEN 0e0 END AS least,
        CASE WHEN m.type = N'date' THEN CAST(DATEDIFF(day, '00010101', m.reference_date) AS float)
             WHEN w.is_whole = 1 AND w.least = 0e0 AND w.most = 1e0 THEN 1e0 END AS most,
        CASE m.transform WHEN N'log1p' THEN 1 ELSE 0 END AS is_log, m.center,
        m.scale / m.weight AS divisor,
        CASE WHEN m.type = N'date' OR w.is_whole = 1 THEN 1 ELSE 0 END AS is_whole,
        CASE WHEN m.type = N'date' THEN m.reference_date END AS reference_date,
        CASE WHEN m.type = N'category' THEN COALESCE(m.level, N'(other)') END AS level
    FROM (SELECT CASE WHEN @income < 0.5e0 THEN 0.5e0 WHEN @income > 0.5e0 THEN 0.5e0 ELSE @income END AS o1, CASE WHEN @feature_2 IS NULL THEN NULL WHEN (@feature_2 + N'.') COLLATE Latin1_General_100_BIN2 IN (N'Oslo.') THEN 1e0 ELSE 0e0 END AS o2, CASE WHEN @feature_2 IS NULL THEN NULL WHEN (@feature_2 + N'.') COLLATE Latin1_General_100_BIN2 IN (N'São Paulo.') THEN 1e0 ELSE 0e0 END AS o3, CASE WHEN @feature_2 IS NULL THEN NULL WHEN (@feature_2 + N'.') COLLATE Latin1_General_100_BIN2 IN (N'it''s.') THEN 1e0 ELSE 0e0 END AS o4, CASE WHEN @feature_2 IS NULL THEN NULL WHEN (@feature_2 + N'.') COLLATE Latin1_General_100_BIN2 IN (N'Oslo.', N'São Paulo.', N'it''s.') THEN 0e0 ELSE 1e0 END AS o5, CASE WHEN CAST(DATEDIFF(day, @joined, '20260101') AS float) < 0.5e0 THEN 0.5e0 WHEN CAST(DATEDIFF(day, @joined, '20260101') AS float) > 0.5e0 THEN 0.5e0 ELSE CAST(DATEDIFF(day, @joined, '20260101') AS float) END AS o6, CASE WHEN @plan_code IS NULL THEN NULL WHEN (@plan_code + N'.') COLLATE Latin1_General_100_BIN2 IN (N'1.') THEN 1e0 ELSE 0e0 END AS o7, CASE WHEN @plan_code IS NULL THEN NULL WHEN (@plan_code + N'.') COLLATE Latin1_General_100_BIN2 IN (N'1.') THEN 0e0 ELSE 1e0 END AS o8) AS o
    CROSS APPLY (SELECT COALESCE(o.o1, 0.5e0) AS x1, COALESCE(o.o2, 0.5e0) AS x2, COALESCE(o.o3, 0.5e0) AS x3, COALESCE(o.o4, 0.5e0) AS x4, COALESCE(o.o5, 0.5e0) AS x5, COALESCE(o.o6, 0.5e0) AS x6, COALESCE(o.o7, 0.5e0) AS x7, COALESCE(o.o8, 0.5e0) AS x8) AS x
CROSS APPLY (SELECT CASE WHEN 1e0 + x.x1 = 1e0 THEN x.x1 WHEN x.x1 > -1e0 THEN LOG(1e0 + x.x1) * (x.x1 / ((1e0 + x.x1) - 1e0)) END AS t1, x.x2 AS t2, x.x3 AS t3, x.x4 AS t4, x.x5 AS t5, CASE WHEN 1e0 + x.x6 = 1e0 THEN x.x6 WHEN x.x6 > -1e0 THEN LOG(1e0 + x.x6) * (x.x6 / ((1e0 + x.x6) - 1e0)) END AS t6, x.x7 AS t7, x.x8 AS t8) AS t
CROSS APPLY (SELECT (t.t1 - (0.5e0)) / 0.5e0 AS z1, (t.t2 - (0.5e0)) / 0.5e0 AS z2, (t.t3 - (0.5e0)) / 0.5e0 AS z3, (t.t4 - (0.5e0)) / 0.5e0 AS z4, (t.t5 - (0.5e0)) / 0.5e0 AS z5, (t.t6 - (0.5e0)) / 0.5e0 AS z6, (t.t7 - (0.5e0)) / 0.5e0 AS z7, (t.t8 - (0.5e0)) / 0.5e0 AS z8) AS z
    CROSS APPLY (VALUES (1, @income, z.z1), (2, x.x2, z.z2), (3, x.x3, z.z3), (4, x.x4, z.z4), (5, x.x5, z.z5), (6, CAST(DATEDIFF(day, @joined, '20260101') AS float), z.z6), (7, x.x7, z.z7), (8, x.x8, z.z8)) AS v (position, given, z)
    INNER JOIN sqlkmeans.model_feature AS m ON m.run_id = 1 AND m.position = v.position
    LEFT JOIN (
        SELECT s.position, MIN(s.[min]) AS least, MAX(s.[max]) AS most,
            MIN(CASE WHEN s.[min] = FLOOR(s.[min]) AND s.[max] = FLOOR(s.[max])
                      AND 2e0 * s.median = FLOOR(2e0 * s.median) THEN 1 ELSE 0 END) AS is_whole
        FROM sqlkmeans.segment_feature AS s
        WHERE s.run_id = 1
        GROUP BY s.position
    ) AS w ON w.position = v.position
),
centroid AS
(
    SELECT c.segment_id, c.position, c.scaled_value AS value
    FROM sqlkmeans.centroid AS c
    WHERE c.run_id = 1
),
distance AS
(
    SELECT c.segment_id, SUM((f.z - c.value) * (f.z - c.value)) AS squared
    FROM feature AS f
    INNER JOIN centroid AS c ON c.position = f.position
    GROUP BY c.segment_id
),
decided AS
(
    SELECT TOP (1) n.segment_id, n.segment_name, d.squared, o.segment_id AS runner_up_id, o.squared AS far
    FROM sqlkmeans.[assign_people](@income, @feature_2, @joined, @plan_code) AS n
    INNER JOIN distance AS d ON d.segment_id = n.segment_id
    INNER JOIN distance AS o ON o.segment_id <> n.segment_id
    ORDER BY o.squared, o.segment_id
),
compared AS
(
    SELECT f.position, f.feature, f.given, f.start, f.z, f.low, f.high, f.least, f.most, f.is_log,
        f.center, f.divisor, f.is_whole, f.reference_date, f.level, g.segment_id, g.segment_name,
        g.runner_up_id, g.squared, a.value AS own_value,
        (f.z - r.value) * (f.z - r.value) - (f.z - a.value) * (f.z - a.value) AS part
    FROM decided AS g
    CROSS JOIN feature AS f
    INNER JOIN centroid AS a ON a.segment_id = g.segment_id AND a.position = f.position
    INNER JOIN centroid AS r ON r.segment_id = g.runner_up_id AND r.position = f.position
),
nearest AS
(
    SELECT p.position, w.new_value
    FROM compared AS p
    CROSS APPLY (
        SELECT TOP (1) y.new_value
        FROM centroid AS c
        INNER JOIN distance AS d ON d.segment_id = c.segment_id
        CROSS APPLY (SELECT c.value - p.own_value AS apart) AS h
        CROSS APPLY (SELECT CASE
                WHEN ABS(h.apart) > 1e-09 * (SQRT(d.squared) + SQRT(p.squared))
                THEN (d.squared - p.squared) / (2e0 * h.apart) END AS step) AS s
        CROSS APPLY (SELECT (p.z + s.step) * p.divisor + p.center AS t,
                p.divisor * (SQRT(p.squared) + ABS(s.step)) AS far) AS b
        CROSS APPLY (SELECT
                CASE WHEN p.is_log = 0 THEN b.t
                     WHEN b.t BETWEEN -30.0e0 AND 36.0e0
                     THEN CASE WHEN EXP(b.t) = 1e0 THEN b.t
                          ELSE (EXP(b.t) - 1e0) * (b.t / LOG(EXP(b.t))) END END AS border,
                CASE WHEN p.is_log = 0 THEN b.far
                     WHEN b.t BETWEEN -30.0e0 AND 36.0e0
                     THEN b.far * EXP(b.t) END AS way) AS x
        CROSS APPLY (SELECT CASE WHEN p.is_whole = 1 THEN 0e0
                WHEN 0.001e0 * x.way + 1e-10 * ABS(x.border) > 1e-290
                THEN FLOOR(LOG10(0.001e0 * x.way + 1e-10 * ABS(x.border))) END AS power) AS e
        CROSS APPLY (SELECT POWER(10e0, CASE WHEN e.power > 0e0 THEN e.power ELSE 0e0 END) AS unit,
                POWER(10e0, CASE WHEN e.power < 0e0 THEN -e.power ELSE 0e0 END) AS parts) AS u
        CROSS APPLY (SELECT CASE p.is_whole
                WHEN 1 THEN 1e-06 * x.way + 1e-10 * ABS(x.border)
                ELSE 0.001e0 * u.unit / u.parts END AS clear) AS q
        CROSS APPLY (SELECT CASE WHEN h.apart > 0e0
                THEN (FLOOR((x.border + q.clear) / u.unit * u.parts) + 1e0) / u.parts * u.unit
                ELSE (CEILING((x.border - q.clear) / u.unit * u.parts) - 1e0) / u.parts * u.unit
                END AS new_value) AS y
        WHERE c.position = p.position AND c.segment_id <> p.segment_id AND p.level IS NULL
          AND ABS(h.apart) * 1000000.0e0 > SQRT(p.squared) + ABS(s.step)
          AND (p.is_log = 0 OR y.new_value > -1e0)
          AND (p.least IS NULL OR y.new_value BETWEEN p.least AND p.most)
          AND (p.low IS NULL OR (h.apart > 0e0 AND x.border < p.high)
               OR (h.apart < 0e0 AND x.border > p.low))
        ORDER BY ABS(y.new_value - p.start), y.new_value DESC
    ) AS w
),
proposed AS
(
    SELECT p.position, MAX(w.new_value) AS new_value,
        MAX(CASE WHEN p.position BETWEEN 1 AND 1 THEN w.new_value ELSE @income END) AS v1, MAX(CASE WHEN p.position BETWEEN 2 AND 5 THEN p.level ELSE @feature_2 END) AS v2, MAX(CASE WHEN p.position BETWEEN 6 AND 6 THEN DATEADD(day, -CAST(w.new_value AS int), p.reference_date) ELSE @joined END) AS v3, MAX(CASE WHEN p.position BETWEEN 7 AND 8 THEN p.level ELSE @plan_code END) AS v4
    FROM compared AS p
    LEFT JOIN nearest AS w ON w.position = p.position
    WHERE w.new_value IS NOT NULL OR (p.level IS NOT NULL AND p.given = 0e0)
    GROUP BY p.position
)
SELECT p.position, p.feature, p.segment_id, p.segment_name, p.runner_up_id,
    CASE WHEN SUM(p.part) OVER () > 0e0 THEN p.part / SUM(p.part) OVER () ELSE 0e0
        END AS contribution,
    CASE WHEN p.reference_date IS NULL THEN m.new_value END AS new_value,
    DATEADD(day, -CAST(CASE WHEN p.reference_date IS NOT NULL THEN m.new_value END AS int), p.reference_date) AS new_date,
    CASE WHEN m.segment_id IS NOT NULL THEN p.level END AS new_level,
    CASE WHEN p.reference_date IS NULL THEN m.new_value - p.given ELSE p.given - m.new_value
        END AS difference,
    m.segment_id AS new_segment_id, m.segment_name AS new_segment_name
FROM compared AS p
LEFT JOIN (
    SELECT v.position, v.new_value, n.segment_id, n.segment_name
    FROM proposed AS v
    CROSS APPLY sqlkmeans.[assign_people](v.v1, v.v2, v.v3, v.v4) AS n
) AS m ON m.position = p.position AND m.segment_id <> p.segment_id
);
GO
CREATE VIEW sqlkmeans.segment_movement AS
SELECT a.segmentation, a.run_id AS from_run_id, b.run_id AS to_run_id,
    m.from_segment_id, m.to_segment_id, m.customers
FROM sqlkmeans.run AS a
INNER JOIN sqlkmeans.run AS b ON b.segmentation = a.segmentation AND b.published_at > a.published_at
CROSS APPLY (
    SELECT c.from_segment_id, c.to_segment_id, COUNT_BIG(*) AS customers
    FROM (
        SELECT MAX(v.from_segment_id) AS from_segment_id, MAX(v.to_segment_id) AS to_segment_id
        FROM [dbo].[customer_segment_history] AS h
        CROSS APPLY (
            SELECT
                CASE WHEN h.valid_from <= a.published_at
                      AND (h.valid_to IS NULL OR h.valid_to > a.published_at)
                     THEN h.segment_id END AS from_segment_id,
                CASE WHEN h.valid_from <= b.published_at
                      AND (h.valid_to IS NULL OR h.valid_to > b.published_at)
                     THEN h.segment_id END AS to_segment_id
        ) AS v
        GROUP BY h.[customer_id]
    ) AS c
    WHERE c.from_segment_id IS NOT NULL OR c.to_segment_id IS NOT NULL
    GROUP BY c.from_segment_id, c.to_segment_id
) AS m
WHERE a.segmentation = N'customers' AND a.status = N'published' AND b.status = N'published'
UNION ALL
SELECT a.segmentation, a.run_id AS from_run_id, b.run_id AS to_run_id,
    m.from_segment_id, m.to_segment_id, m.customers
FROM sqlkmeans.run AS a
INNER JOIN sqlkmeans.run AS b ON b.segmentation = a.segmentation AND b.published_at > a.published_at
CROSS APPLY (
    SELECT c.from_segment_id, c.to_segment_id, COUNT_BIG(*) AS customers
    FROM (
        SELECT MAX(v.from_segment_id) AS from_segment_id, MAX(v.to_segment_id) AS to_segment_id
        FROM [dbo].[person_segment_history] AS h
        CROSS APPLY (
            SELECT
                CASE WHEN h.valid_from <= a.published_at
                      AND (h.valid_to IS NULL OR h.valid_to > a.published_at)
                     THEN h.segment_id END AS from_segment_id,
                CASE WHEN h.valid_from <= b.published_at
                      AND (h.valid_to IS NULL OR h.valid_to > b.published_at)
                     THEN h.segment_id END AS to_segment_id
        ) AS v
        GROUP BY h.[person_id]
    ) AS c
    WHERE c.from_segment_id IS NOT NULL OR c.to_segment_id IS NOT NULL
    GROUP BY c.from_segment_id, c.to_segment_id
) AS m
WHERE a.segmentation = N'people' AND a.status = N'published' AND b.status = N'published'
UNION ALL
SELECT a.segmentation, a.run_id AS from_run_id, b.run_id AS to_run_id,
    m.from_segment_id, m.to_segment_id, m.customers
FROM sqlkmeans.run AS a
INNER JOIN sqlkmeans.run AS b ON b.segmentation = a.segmentation AND b.published_at > a.published_at
CROSS APPLY (
    SELECT c.from_segment_id, c.to_segment_id, COUNT_BIG(*) AS customers
    FROM (
        SELECT MAX(v.from_segment_id) AS from_segment_id, MAX(v.to_segment_id) AS to_segment_id
        FROM [dbo].[square_segment_history] AS h
        CROSS APPLY (
            SELECT
                CASE WHEN h.valid_from <= a.published_at
                      AND (h.valid_to IS NULL OR h.valid_to > a.published_at)
                     THEN h.segment_id END AS from_segment_id,
                CASE WHEN h.valid_from <= b.published_at
                      AND (h.valid_to IS NULL OR h.valid_to > b.published_at)
                     THEN h.segment_id END AS to_segment_id
        ) AS v
        GROUP BY h.[id]
    ) AS c
    WHERE c.from_segment_id IS NOT NULL OR c.to_segment_id IS NOT NULL
    GROUP BY c.from_segment_id, c.to_segment_id
) AS m
WHERE a.segmentation = N'square' AND a.status = N'published' AND b.status = N'published';
GO
ALTER TABLE #sqlkmeans_prepared ADD [person_id] bigint NULL; ALTER TABLE #sqlkmeans_scored ADD [person_id] bigint NULL; ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans o1] float NULL; ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans z1] float NULL; ALTER TABLE #sqlkmeans_scored ADD [sqlkmeans o1] float NULL; ALTER TABLE #sqlkmeans_centroid ADD z1 float NULL; ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans o2] float NULL; ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans z2] float NULL; ALTER TABLE #sqlkmeans_scored ADD [sqlkmeans o2] float NULL; ALTER TABLE #sqlkmeans_centroid ADD z2 float NULL; ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans o3] float NULL; ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans z3] float NULL; ALTER TABLE #sqlkmeans_scored ADD [sqlkmeans o3] float NULL; ALTER TABLE #sqlkmeans_centroid ADD z3 float NULL; ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans o4] float NULL; ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans z4] float NULL; ALTER TABLE #sqlkmeans_scored ADD [sqlkmeans o4] float NULL; ALTER TABLE #sqlkmeans_centroid ADD z4 float NULL; ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans o5] float NULL; ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans z5] float NULL; ALTER TABLE #sqlkmeans_scored ADD [sqlkmeans o5] float NULL; ALTER TABLE #sqlkmeans_centroid ADD z5 float NULL; ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans o6] float NULL; ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans z6] float NULL; ALTER TABLE #sqlkmeans_scored ADD [sqlkmeans o6] float NULL; ALTER TABLE #sqlkmeans_centroid ADD z6 float NULL; ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans o7] float NULL; ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans z7] float NULL; ALTER TABLE #sqlkmeans_scored ADD [sqlkmeans o7] float NULL; ALTER TABLE #sqlkmeans_centroid ADD z7 float NULL; ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans o8] float NULL; ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans z8] float NULL; ALTER TABLE #sqlkmeans_scored ADD [sqlkmeans o8] float NULL; ALTER TABLE #sqlkmeans_centroid ADD z8 float NULL;
GO
INSERT INTO #sqlkmeans_prepared WITH (TABLOCK) ([person_id], [sqlkmeans row], [sqlkmeans previous], [sqlkmeans before], [sqlkmeans flagged], [sqlkmeans weight], [sqlkmeans o1], [sqlkmeans z1], [sqlkmeans o2], [sqlkmeans z2], [sqlkmeans o3], [sqlkmeans z3], [sqlkmeans o4], [sqlkmeans z4], [sqlkmeans o5], [sqlkmeans z5], [sqlkmeans o6], [sqlkmeans z6], [sqlkmeans o7], [sqlkmeans z7], [sqlkmeans o8], [sqlkmeans z8])
SELECT s.[person_id], NULL, p.segment_id, p.distance, p.is_outlier, 1e0, o.o1, z.z1, o.o2, z.z2, o.o3, z.z3, o.o4, z.z4, o.o5, z.z5, o.o6, z.z6, o.o7, z.z7, o.o8, z.z8
FROM [dbo].[person] AS s
LEFT JOIN [dbo].[person_segment] AS p ON p.[person_id] = s.[person_id]
CROSS APPLY (SELECT CASE WHEN CAST(s.[income] AS float) < 0.5e0 THEN 0.5e0 WHEN CAST(s.[income] AS float) > 0.5e0 THEN 0.5e0 ELSE CAST(s.[income] AS float) END AS o1, CASE WHEN CAST(s.[home city] AS nvarchar(4000)) IS NULL THEN NULL WHEN (CAST(s.[home city] AS nvarchar(4000)) + N'.') COLLATE Latin1_General_100_BIN2 IN (N'Oslo.') THEN 1e0 ELSE 0e0 END AS o2, CASE WHEN CAST(s.[home city] AS nvarchar(4000)) IS NULL THEN NULL WHEN (CAST(s.[home city] AS nvarchar(4000)) + N'.') COLLATE Latin1_General_100_BIN2 IN (N'São Paulo.') THEN 1e0 ELSE 0e0 END AS o3, CASE WHEN CAST(s.[home city] AS nvarchar(4000)) IS NULL THEN NULL WHEN (CAST(s.[home city] AS nvarchar(4000)) + N'.') COLLATE Latin1_General_100_BIN2 IN (N'it''s.') THEN 1e0 ELSE 0e0 END AS o4, CASE WHEN CAST(s.[home city] AS nvarchar(4000)) IS NULL THEN NULL WHEN (CAST(s.[home city] AS nvarchar(4000)) + N'.') COLLATE Latin1_General_100_BIN2 IN (N'Oslo.', N'São Paulo.', N'it''s.') THEN 0e0 ELSE 1e0 END AS o5, CASE WHEN CAST(DATEDIFF(day, CAST(s.[joined] AS date), '20260101') AS float) < 0.5e0 THEN 0.5e0 WHEN CAST(DATEDIFF(day, CAST(s.[joined] AS date), '20260101') AS float) > 0.5e0 THEN 0.5e0 ELSE CAST(DATEDIFF(day, CAST(s.[joined] AS date), '20260101') AS float) END AS o6, CASE WHEN CAST(s.[plan_code] AS nvarchar(4000)) IS NULL THEN NULL WHEN (CAST(s.[plan_code] AS nvarchar(4000)) + N'.') COLLATE Latin1_General_100_BIN2 IN (N'1.') THEN 1e0 ELSE 0e0 END AS o7, CASE WHEN CAST(s.[plan_code] AS nvarchar(4000)) IS NULL THEN NULL WHEN (CAST(s.[plan_code] AS nvarchar(4000)) + N'.') COLLATE Latin1_General_100_BIN2 IN (N'1.') THEN 0e0 ELSE 1e0 END AS o8) AS o
CROSS APPLY (SELECT COALESCE(o.o1, 0.5e0) AS x1, COALESCE(o.o2, 0.5e0) AS x2, COALESCE(o.o3, 0.5e0) AS x3, COALESCE(o.o4, 0.5e0) AS x4, COALESCE(o.o5, 0.5e0) AS x5, COALESCE(o.o6, 0.5e0) AS x6, COALESCE(o.o7, 0.5e0) AS x7, COALESCE(o.o8, 0.5e0) AS x8) AS x
CROSS APPLY (SELECT CASE WHEN 1e0 + x.x1 = 1e0 THEN x.x1 WHEN x.x1 > -1e0 THEN LOG(1e0 + x.x1) * (x.x1 / ((1e0 + x.x1) - 1e0)) END AS t1, x.x2 AS t2, x.x3 AS t3, x.x4 AS t4, x.x5 AS t5, CASE WHEN 1e0 + x.x6 = 1e0 THEN x.x6 WHEN x.x6 > -1e0 THEN LOG(1e0 + x.x6) * (x.x6 / ((1e0 + x.x6) - 1e0)) END AS t6, x.x7 AS t7, x.x8 AS t8) AS t
CROSS APPLY (SELECT (t.t1 - (0.5e0)) / 0.5e0 AS z1, (t.t2 - (0.5e0)) / 0.5e0 AS z2, (t.t3 - (0.5e0)) / 0.5e0 AS z3, (t.t4 - (0.5e0)) / 0.5e0 AS z4, (t.t5 - (0.5e0)) / 0.5e0 AS z5, (t.t6 - (0.5e0)) / 0.5e0 AS z6, (t.t7 - (0.5e0)) / 0.5e0 AS z7, (t.t8 - (0.5e0)) / 0.5e0 AS z8) AS z;
SET @rows = ROWCOUNT_BIG();
GO
SELECT @nulls = COALESCE(SUM(g.nulls * g.customers), 0),
    @repeats = COALESCE(SUM(CASE g.nulls WHEN 0 THEN g.customers - 1 END), 0)
FROM (SELECT COUNT_BIG(*) AS customers, CASE WHEN s.[person_id] IS NULL THEN 1 ELSE 0 END AS nulls FROM #sqlkmeans_prepared AS s GROUP BY s.[person_id]
      HAVING COUNT_BIG(*) > 1 OR s.[person_id] IS NULL) AS g;
GO
DELETE FROM #sqlkmeans_centroid;
INSERT INTO #sqlkmeans_centroid (cluster, z1, z2, z3, z4, z5, z6, z7, z8)
SELECT p.cluster, MAX(CASE p.position WHEN 1 THEN p.scaled_value END), MAX(CASE p.position WHEN 2 THEN p.scaled_value END), MAX(CASE p.position WHEN 3 THEN p.scaled_value END), MAX(CASE p.position WHEN 4 THEN p.scaled_value END), MAX(CASE p.position WHEN 5 THEN p.scaled_value END), MAX(CASE p.position WHEN 6 THEN p.scaled_value END), MAX(CASE p.position WHEN 7 THEN p.scaled_value END), MAX(CASE p.position WHEN 8 THEN p.scaled_value END)
FROM #sqlkmeans_point AS p GROUP BY p.cluster;
DECLARE @c0_1 float, @c0_2 float, @c0_3 float, @c0_4 float, @c0_5 float, @c0_6 float, @c0_7 float, @c0_8 float, @c1_1 float, @c1_2 float, @c1_3 float, @c1_4 float, @c1_5 float, @c1_6 float, @c1_7 float, @c1_8 float, @c2_1 float, @c2_2 float, @c2_3 float, @c2_4 float, @c2_5 float, @c2_6 float, @c2_7 float, @c2_8 float, @c3_1 float, @c3_2 float, @c3_3 float, @c3_4 float, @c3_5 float, @c3_6 float, @c3_7 float, @c3_8 float, @c4_1 float, @c4_2 float, @c4_3 float, @c4_4 float, @c4_5 float, @c4_6 float, @c4_7 float, @c4_8 float;
SELECT @c0_1 = SUM(CASE c.cluster WHEN 0 THEN c.z1 ELSE 0e0 END), @c0_2 = SUM(CASE c.cluster WHEN 0 THEN c.z2 ELSE 0e0 END), @c0_3 = SUM(CASE c.cluster WHEN 0 THEN c.z3 ELSE 0e0 END), @c0_4 = SUM(CASE c.cluster WHEN 0 THEN c.z4 ELSE 0e0 END), @c0_5 = SUM(CASE c.cluster WHEN 0 THEN c.z5 ELSE 0e0 END), @c0_6 = SUM(CASE c.cluster WHEN 0 THEN c.z6 ELSE 0e0 END), @c0_7 = SUM(CASE c.cluster WHEN 0 THEN c.z7 ELSE 0e0 END), @c0_8 = SUM(CASE c.cluster WHEN 0 THEN c.z8 ELSE 0e0 END), @c1_1 = SUM(CASE c.cluster WHEN 1 THEN c.z1 ELSE 0e0 END), @c1_2 = SUM(CASE c.cluster WHEN 1 THEN c.z2 ELSE 0e0 END), @c1_3 = SUM(CASE c.cluster WHEN 1 THEN c.z3 ELSE 0e0 END), @c1_4 = SUM(CASE c.cluster WHEN 1 THEN c.z4 ELSE 0e0 END), @c1_5 = SUM(CASE c.cluster WHEN 1 THEN c.z5 ELSE 0e0 END), @c1_6 = SUM(CASE c.cluster WHEN 1 THEN c.z6 ELSE 0e0 END), @c1_7 = SUM(CASE c.cluster WHEN 1 THEN c.z7 ELSE 0e0 END), @c1_8 = SUM(CASE c.cluster WHEN 1 THEN c.z8 ELSE 0e0 END), @c2_1 = SUM(CASE c.cluster WHEN 2 THEN c.z1 ELSE 0e0 END), @c2_2 = SUM(CASE c.cluster WHEN 2 THEN c.z2 ELSE 0e0 END), @c2_3 = SUM(CASE c.cluster WHEN 2 THEN c.z3 ELSE 0e0 END), @c2_4 = SUM(CASE c.cluster WHEN 2 THEN c.z4 ELSE 0e0 END), @c2_5 = SUM(CASE c.cluster WHEN 2 THEN c.z5 ELSE 0e0 END), @c2_6 = SUM(CASE c.cluster WHEN 2 THEN c.z6 ELSE 0e0 END), @c2_7 = SUM(CASE c.cluster WHEN 2 THEN c.z7 ELSE 0e0 END), @c2_8 = SUM(CASE c.cluster WHEN 2 THEN c.z8 ELSE 0e0 END), @c3_1 = SUM(CASE c.cluster WHEN 3 THEN c.z1 ELSE 0e0 END), @c3_2 = SUM(CASE c.cluster WHEN 3 THEN c.z2 ELSE 0e0 END), @c3_3 = SUM(CASE c.cluster WHEN 3 THEN c.z3 ELSE 0e0 END), @c3_4 = SUM(CASE c.cluster WHEN 3 THEN c.z4 ELSE 0e0 END), @c3_5 = SUM(CASE c.cluster WHEN 3 THEN c.z5 ELSE 0e0 END), @c3_6 = SUM(CASE c.cluster WHEN 3 THEN c.z6 ELSE 0e0 END), @c3_7 = SUM(CASE c.cluster WHEN 3 THEN c.z7 ELSE 0e0 END), @c3_8 = SUM(CASE c.cluster WHEN 3 THEN c.z8 ELSE 0e0 END), @c4_1 = SUM(CASE c.cluster WHEN 4 THEN c.z1 ELSE 0e0 END), @c4_2 = SUM(CASE c.cluster WHEN 4 THEN c.z2 ELSE 0e0 END), @c4_3 = SUM(CASE c.cluster WHEN 4 THEN c.z3 ELSE 0e0 END), @c4_4 = SUM(CASE c.cluster WHEN 4 THEN c.z4 ELSE 0e0 END), @c4_5 = SUM(CASE c.cluster WHEN 4 THEN c.z5 ELSE 0e0 END), @c4_6 = SUM(CASE c.cluster WHEN 4 THEN c.z6 ELSE 0e0 END), @c4_7 = SUM(CASE c.cluster WHEN 4 THEN c.z7 ELSE 0e0 END), @c4_8 = SUM(CASE c.cluster WHEN 4 THEN c.z8 ELSE 0e0 END)
FROM #sqlkmeans_centroid AS c;
INSERT INTO #sqlkmeans_scored WITH (TABLOCK) ([person_id], [sqlkmeans previous], [sqlkmeans before], [sqlkmeans flagged], [sqlkmeans weight], [sqlkmeans o1], [sqlkmeans o2], [sqlkmeans o3], [sqlkmeans o4], [sqlkmeans o5], [sqlkmeans o6], [sqlkmeans o7], [sqlkmeans o8], [sqlkmeans cluster], [sqlkmeans distance])
SELECT r.[person_id], r.[sqlkmeans previous], r.[sqlkmeans before], r.[sqlkmeans flagged], r.[sqlkmeans weight], r.[sqlkmeans o1], r.[sqlkmeans o2], r.[sqlkmeans o3], r.[sqlkmeans o4], r.[sqlkmeans o5], r.[sqlkmeans o6], r.[sqlkmeans o7], r.[sqlkmeans o8], c.cluster, SQRT((r.[sqlkmeans z1] - c.z1) * (r.[sqlkmeans z1] - c.z1) + (r.[sqlkmeans z2] - c.z2) * (r.[sqlkmeans z2] - c.z2) + (r.[sqlkmeans z3] - c.z3) * (r.[sqlkmeans z3] - c.z3) + (r.[sqlkmeans z4] - c.z4) * (r.[sqlkmeans z4] - c.z4) + (r.[sqlkmeans z5] - c.z5) * (r.[sqlkmeans z5] - c.z5) + (r.[sqlkmeans z6] - c.z6) * (r.[sqlkmeans z6] - c.z6) + (r.[sqlkmeans z7] - c.z7) * (r.[sqlkmeans z7] - c.z7) + (r.[sqlkmeans z8] - c.z8) * (r.[sqlkmeans z8] - c.z8))
FROM #sqlkmeans_prepared AS r
CROSS APPLY (SELECT (r.[sqlkmeans z1] - @c1_1) * (r.[sqlkmeans z1] - @c1_1) + (r.[sqlkmeans z2] - @c1_2) * (r.[sqlkmeans z2] - @c1_2) + (r.[sqlkmeans z3] - @c1_3) * (r.[sqlkmeans z3] - @c1_3) + (r.[sqlkmeans z4] - @c1_4) * (r.[sqlkmeans z4] - @c1_4) + (r.[sqlkmeans z5] - @c1_5) * (r.[sqlkmeans z5] - @c1_5) + (r.[sqlkmeans z6] - @c1_6) * (r.[sqlkmeans z6] - @c1_6) + (r.[sqlkmeans z7] - @c1_7) * (r.[sqlkmeans z7] - @c1_7) + (r.[sqlkmeans z8] - @c1_8) * (r.[sqlkmeans z8] - @c1_8) AS d1, (r.[sqlkmeans z1] - @c2_1) * (r.[sqlkmeans z1] - @c2_1) + (r.[sqlkmeans z2] - @c2_2) * (r.[sqlkmeans z2] - @c2_2) + (r.[sqlkmeans z3] - @c2_3) * (r.[sqlkmeans z3] - @c2_3) + (r.[sqlkmeans z4] - @c2_4) * (r.[sqlkmeans z4] - @c2_4) + (r.[sqlkmeans z5] - @c2_5) * (r.[sqlkmeans z5] - @c2_5) + (r.[sqlkmeans z6] - @c2_6) * (r.[sqlkmeans z6] - @c2_6) + (r.[sqlkmeans z7] - @c2_7) * (r.[sqlkmeans z7] - @c2_7) + (r.[sqlkmeans z8] - @c2_8) * (r.[sqlkmeans z8] - @c2_8) AS d2, (r.[sqlkmeans z1] - @c3_1) * (r.[sqlkmeans z1] - @c3_1) + (r.[sqlkmeans z2] - @c3_2) * (r.[sqlkmeans z2] - @c3_2) + (r.[sqlkmeans z3] - @c3_3) * (r.[sqlkmeans z3] - @c3_3) + (r.[sqlkmeans z4] - @c3_4) * (r.[sqlkmeans z4] - @c3_4) + (r.[sqlkmeans z5] - @c3_5) * (r.[sqlkmeans z5] - @c3_5) + (r.[sqlkmeans z6] - @c3_6) * (r.[sqlkmeans z6] - @c3_6) + (r.[sqlkmeans z7] - @c3_7) * (r.[sqlkmeans z7] - @c3_7) + (r.[sqlkmeans z8] - @c3_8) * (r.[sqlkmeans z8] - @c3_8) AS d3, (r.[sqlkmeans z1] - @c4_1) * (r.[sqlkmeans z1] - @c4_1) + (r.[sqlkmeans z2] - @c4_2) * (r.[sqlkmeans z2] - @c4_2) + (r.[sqlkmeans z3] - @c4_3) * (r.[sqlkmeans z3] - @c4_3) + (r.[sqlkmeans z4] - @c4_4) * (r.[sqlkmeans z4] - @c4_4) + (r.[sqlkmeans z5] - @c4_5) * (r.[sqlkmeans z5] - @c4_5) + (r.[sqlkmeans z6] - @c4_6) * (r.[sqlkmeans z6] - @c4_6) + (r.[sqlkmeans z7] - @c4_7) * (r.[sqlkmeans z7] - @c4_7) + (r.[sqlkmeans z8] - @c4_8) * (r.[sqlkmeans z8] - @c4_8) AS d4) AS d
CROSS APPLY (SELECT CASE WHEN d.d1 <= d.d2 AND d.d1 <= d.d3 AND d.d1 <= d.d4 THEN 1 WHEN d.d2 <= d.d3 AND d.d2 <= d.d4 THEN 2 WHEN d.d3 <= d.d4 THEN 3 ELSE 4 END AS cluster) AS n
INNER JOIN #sqlkmeans_centroid AS c ON c.cluster = n.cluster
WHERE r.[sqlkmeans z1] IS NOT NULL AND r.[sqlkmeans z2] IS NOT NULL AND r.[sqlkmeans z3] IS NOT NULL AND r.[sqlkmeans z4] IS NOT NULL AND r.[sqlkmeans z5] IS NOT NULL AND r.[sqlkmeans z6] IS NOT NULL AND r.[sqlkmeans z7] IS NOT NULL AND r.[sqlkmeans z8] IS NOT NULL;
SET @rows = ROWCOUNT_BIG();
GO
SELECT s.[sqlkmeans cluster] AS cluster, s.[sqlkmeans previous] AS previous,
    COUNT_BIG(*) AS customers, SUM(s.[sqlkmeans distance]) AS distance,
    SUM(s.[sqlkmeans distance] * s.[sqlkmeans distance]) AS within_ss,
    SUM(s.[sqlkmeans weight] * s.[sqlkmeans distance] * s.[sqlkmeans distance]) AS inertia,
    SUM(s.[sqlkmeans weight]) AS weight, COUNT_BIG(s.[sqlkmeans o1]) AS n1, SUM(s.[sqlkmeans o1] - p.c1) AS s1, SUM((s.[sqlkmeans o1] - p.c1) * (s.[sqlkmeans o1] - p.c1)) AS q1, MIN(s.[sqlkmeans o1]) AS l1, MAX(s.[sqlkmeans o1]) AS h1, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_1, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_2, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 END) AS e1_3, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] < p.cl1 THEN 1 END) AS cb1, COUNT_BIG(CASE WHEN s.[sqlkmeans o1] < p.el1 THEN 1 END) AS eb1, COUNT_BIG(s.[sqlkmeans o2]) AS n2, SUM(s.[sqlkmeans o2] - p.c2) AS s2, SUM((s.[sqlkmeans o2] - p.c2) * (s.[sqlkmeans o2] - p.c2)) AS q2, MIN(s.[sqlkmeans o2]) AS l2, MAX(s.[sqlkmeans o2]) AS h2, COUNT_BIG(CASE WHEN s.[sqlkmeans o2] < p.cl2 THEN 1 END) AS cb2, COUNT_BIG(CASE WHEN s.[sqlkmeans o2] < p.el2 THEN 1 END) AS eb2, COUNT_BIG(s.[sqlkmeans o3]) AS n3, SUM(s.[sqlkmeans o3] - p.c3) AS s3, SUM((s.[sqlkmeans o3] - p.c3) * (s.[sqlkmeans o3] - p.c3)) AS q3, MIN(s.[sqlkmeans o3]) AS l3, MAX(s.[sqlkmeans o3]) AS h3, COUNT_BIG(CASE WHEN s.[sqlkmeans o3] < p.cl3 THEN 1 END) AS cb3, COUNT_BIG(CASE WHEN s.[sqlkmeans o3] < p.el3 THEN 1 END) AS eb3, COUNT_BIG(s.[sqlkmeans o4]) AS n4, SUM(s.[sqlkmeans o4] - p.c4) AS s4, SUM((s.[sqlkmeans o4] - p.c4) * (s.[sqlkmeans o4] - p.c4)) AS q4, MIN(s.[sqlkmeans o4]) AS l4, MAX(s.[sqlkmeans o4]) AS h4, COUNT_BIG(CASE WHEN s.[sqlkmeans o4] < p.cl4 THEN 1 END) AS cb4, COUNT_BIG(CASE WHEN s.[sqlkmeans o4] < p.el4 THEN 1 END) AS eb4, COUNT_BIG(s.[sqlkmeans o5]) AS n5, SUM(s.[sqlkmeans o5] - p.c5) AS s5, SUM((s.[sqlkmeans o5] - p.c5) * (s.[sqlkmeans o5] - p.c5)) AS q5, MIN(s.[sqlkmeans o5]) AS l5, MAX(s.[sqlkmeans o5]) AS h5, COUNT_BIG(CASE WHEN s.[sqlkmeans o5] < p.cl5 THEN 1 END) AS cb5, COUNT_BIG(CASE WHEN s.[sqlkmeans o5] < p.el5 THEN 1 END) AS eb5, COUNT_BIG(s.[sqlkmeans o6]) AS n6, SUM(s.[sqlkmeans o6] - p.c6) AS s6, SUM((s.[sqlkmeans o6] - p.c6) * (s.[sqlkmeans o6] - p.c6)) AS q6, MIN(s.[sqlkmeans o6]) AS l6, MAX(s.[sqlkmeans o6]) AS h6, COUNT_BIG(CASE WHEN s.[sqlkmeans o6] <= 0.5e0 THEN 1 END) AS e6_1, COUNT_BIG(CASE WHEN s.[sqlkmeans o6] <= 0.5e0 THEN 1 END) AS e6_2, COUNT_BIG(CASE WHEN s.[sqlkmeans o6] <= 0.5e0 THEN 1 END) AS e6_3, COUNT_BIG(CASE WHEN s.[sqlkmeans o6] < p.cl6 THEN 1 END) AS cb6, COUNT_BIG(CASE WHEN s.[sqlkmeans o6] < p.el6 THEN 1 END) AS eb6, COUNT_BIG(s.[sqlkmeans o7]) AS n7, SUM(s.[sqlkmeans o7] - p.c7) AS s7, SUM((s.[sqlkmeans o7] - p.c7) * (s.[sqlkmeans o7] - p.c7)) AS q7, MIN(s.[sqlkmeans o7]) AS l7, MAX(s.[sqlkmeans o7]) AS h7, COUNT_BIG(CASE WHEN s.[sqlkmeans o7] < p.cl7 THEN 1 END) AS cb7, COUNT_BIG(CASE WHEN s.[sqlkmeans o7] < p.el7 THEN 1 END) AS eb7, COUNT_BIG(s.[sqlkmeans o8]) AS n8, SUM(s.[sqlkmeans o8] - p.c8) AS s8, SUM((s.[sqlkmeans o8] - p.c8) * (s.[sqlkmeans o8] - p.c8)) AS q8, MIN(s.[sqlkmeans o8]) AS l8, MAX(s.[sqlkmeans o8]) AS h8, COUNT_BIG(CASE WHEN s.[sqlkmeans o8] < p.cl8 THEN 1 END) AS cb8, COUNT_BIG(CASE WHEN s.[sqlkmeans o8] < p.el8 THEN 1 END) AS eb8
INTO #sqlkmeans_wide
 FROM #sqlkmeans_scored AS s
INNER JOIN (SELECT a.cluster, MAX(CASE a.position WHEN 1 THEN a.value END) AS c1, MAX(CASE WHEN a.position = 1 AND b.cluster > 0 THEN b.low END) AS cl1, MAX(CASE WHEN a.position = 1 AND b.cluster > 0 THEN b.high END) AS ch1, MAX(CASE WHEN a.position = 1 AND b.cluster = 0 THEN b.low END) AS el1, MAX(CASE WHEN a.position = 1 AND b.cluster = 0 THEN b.high END) AS eh1, MAX(CASE a.position WHEN 2 THEN a.value END) AS c2, MAX(CASE WHEN a.position = 2 AND b.cluster > 0 THEN b.low END) AS cl2, MAX(CASE WHEN a.position = 2 AND b.cluster > 0 THEN b.high END) AS ch2, MAX(CASE WHEN a.position = 2 AND b.cluster = 0 THEN b.low END) AS el2, MAX(CASE WHEN a.position = 2 AND b.cluster = 0 THEN b.high END) AS eh2, MAX(CASE a.position WHEN 3 THEN a.value END) AS c3, MAX(CASE WHEN a.position = 3 AND b.cluster > 0 THEN b.low END) AS cl3, MAX(CASE WHEN a.position = 3 AND b.cluster > 0 THEN b.high END) AS ch3, MAX(CASE WHEN a.position = 3 AND b.cluster = 0 THEN b.low END) AS el3, MAX(CASE WHEN a.position = 3 AND b.cluster = 0 THEN b.high END) AS eh3, MAX(CASE a.position WHEN 4 THEN a.value END) AS c4, MAX(CASE WHEN a.position = 4 AND b.cluster > 0 THEN b.low END) AS cl4, MAX(CASE WHEN a.position = 4 AND b.cluster > 0 THEN b.high END) AS ch4, MAX(CASE WHEN a.position = 4 AND b.cluster = 0 THEN b.low END) AS el4, MAX(CASE WHEN a.position = 4 AND b.cluster = 0 THEN b.high END) AS eh4, MAX(CASE a.position WHEN 5 THEN a.value END) AS c5, MAX(CASE WHEN a.position = 5 AND b.cluster > 0 THEN b.low END) AS cl5, MAX(CASE WHEN a.position = 5 AND b.cluster > 0 THEN b.high END) AS ch5, MAX(CASE WHEN a.position = 5 AND b.cluster = 0 THEN b.low END) AS el5, MAX(CASE WHEN a.position = 5 AND b.cluster = 0 THEN b.high END) AS eh5, MAX(CASE a.position WHEN 6 THEN a.value END) AS c6, MAX(CASE WHEN a.position = 6 AND b.cluster > 0 THEN b.low END) AS cl6, MAX(CASE WHEN a.position = 6 AND b.cluster > 0 THEN b.high END) AS ch6, MAX(CASE WHEN a.position = 6 AND b.cluster = 0 THEN b.low END) AS el6, MAX(CASE WHEN a.position = 6 AND b.cluster = 0 THEN b.high END) AS eh6, MAX(CASE a.position WHEN 7 THEN a.value END) AS c7, MAX(CASE WHEN a.position = 7 AND b.cluster > 0 THEN b.low END) AS cl7, MAX(CASE WHEN a.position = 7 AND b.cluster > 0 THEN b.high END) AS ch7, MAX(CASE WHEN a.position = 7 AND b.cluster = 0 THEN b.low END) AS el7, MAX(CASE WHEN a.position = 7 AND b.cluster = 0 THEN b.high END) AS eh7, MAX(CASE a.position WHEN 8 THEN a.value END) AS c8, MAX(CASE WHEN a.position = 8 AND b.cluster > 0 THEN b.low END) AS cl8, MAX(CASE WHEN a.position = 8 AND b.cluster > 0 THEN b.high END) AS ch8, MAX(CASE WHEN a.position = 8 AND b.cluster = 0 THEN b.low END) AS el8, MAX(CASE WHEN a.position = 8 AND b.cluster = 0 THEN b.high END) AS eh8 FROM #sqlkmeans_point AS a
            LEFT JOIN #sqlkmeans_bracket AS b
                ON b.position = a.position AND b.cluster IN (0, a.cluster)
            GROUP BY a.cluster) AS p
    ON p.cluster = s.[sqlkmeans cluster]
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
      CROSS APPLY (VALUES (1, w.n1, w.s1, w.q1, w.l1, w.h1), (2, w.n2, w.s2, w.q2, w.l2, w.h2), (3, w.n3, w.s3, w.q3, w.l3, w.h3), (4, w.n4, w.s4, w.q4, w.l4, w.h4), (5, w.n5, w.s5, w.q5, w.l5, w.h5), (6, w.n6, w.s6, w.q6, w.l6, w.h6), (7, w.n7, w.s7, w.q7, w.l7, w.h7), (8, w.n8, w.s8, w.q8, w.l8, w.h8)) AS v (position, known, total, squares, lowest, highest)
      GROUP BY w.cluster, v.position) AS m
INNER JOIN #sqlkmeans_point AS p ON p.cluster = m.cluster AND p.position = m.position;
UPDATE e
SET customers = n.customers
FROM #sqlkmeans_edge AS e
INNER JOIN (SELECT v.position, v.number, SUM(v.customers) AS customers
            FROM #sqlkmeans_wide AS w
            CROSS APPLY (VALUES (1, 1, w.e1_1), (1, 2, w.e1_2), (1, 3, w.e1_3), (6, 1, w.e6_1), (6, 2, w.e6_2), (6, 3, w.e6_3)) AS v (position, number, customers)
            GROUP BY v.position, v.number) AS n
    ON n.position = e.position AND n.number = e.number;
UPDATE b
SET below = n.customers
FROM #sqlkmeans_bracket AS b
INNER JOIN (SELECT v.cluster, v.position, SUM(v.customers) AS customers
            FROM #sqlkmeans_wide AS w
            CROSS APPLY (VALUES (w.cluster, 1, w.cb1), (0, 1, w.eb1), (w.cluster, 2, w.cb2), (0, 2, w.eb2), (w.cluster, 3, w.cb3), (0, 3, w.eb3), (w.cluster, 4, w.cb4), (0, 4, w.eb4), (w.cluster, 5, w.cb5), (0, 5, w.eb5), (w.cluster, 6, w.cb6), (0, 6, w.eb6), (w.cluster, 7, w.cb7), (0, 7, w.eb7), (w.cluster, 8, w.cb8), (0, 8, w.eb8)) AS v (cluster, position, customers)
            GROUP BY v.cluster, v.position) AS n
    ON n.cluster = b.cluster AND n.position = b.position;
INSERT INTO #sqlkmeans_near (cluster, position, value, customers)
SELECT v.cluster, v.position, v.value, COUNT_BIG(*)
 FROM #sqlkmeans_scored AS s
INNER JOIN (SELECT a.cluster, MAX(CASE a.position WHEN 1 THEN a.value END) AS c1, MAX(CASE WHEN a.position = 1 AND b.cluster > 0 THEN b.low END) AS cl1, MAX(CASE WHEN a.position = 1 AND b.cluster > 0 THEN b.high END) AS ch1, MAX(CASE WHEN a.position = 1 AND b.cluster = 0 THEN b.low END) AS el1, MAX(CASE WHEN a.position = 1 AND b.cluster = 0 THEN b.high END) AS eh1, MAX(CASE a.position WHEN 2 THEN a.value END) AS c2, MAX(CASE WHEN a.position = 2 AND b.cluster > 0 THEN b.low END) AS cl2, MAX(CASE WHEN a.position = 2 AND b.cluster > 0 THEN b.high END) AS ch2, MAX(CASE WHEN a.position = 2 AND b.cluster = 0 THEN b.low END) AS el2, MAX(CASE WHEN a.position = 2 AND b.cluster = 0 THEN b.high END) AS eh2, MAX(CASE a.position WHEN 3 THEN a.value END) AS c3, MAX(CASE WHEN a.position = 3 AND b.cluster > 0 THEN b.low END) AS cl3, MAX(CASE WHEN a.position = 3 AND b.cluster > 0 THEN b.high END) AS ch3, MAX(CASE WHEN a.position = 3 AND b.cluster = 0 THEN b.low END) AS el3, MAX(CASE WHEN a.position = 3 AND b.cluster = 0 THEN b.high END) AS eh3, MAX(CASE a.position WHEN 4 THEN a.value END) AS c4, MAX(CASE WHEN a.position = 4 AND b.cluster > 0 THEN b.low END) AS cl4, MAX(CASE WHEN a.position = 4 AND b.cluster > 0 THEN b.high END) AS ch4, MAX(CASE WHEN a.position = 4 AND b.cluster = 0 THEN b.low END) AS el4, MAX(CASE WHEN a.position = 4 AND b.cluster = 0 THEN b.high END) AS eh4, MAX(CASE a.position WHEN 5 THEN a.value END) AS c5, MAX(CASE WHEN a.position = 5 AND b.cluster > 0 THEN b.low END) AS cl5, MAX(CASE WHEN a.position = 5 AND b.cluster > 0 THEN b.high END) AS ch5, MAX(CASE WHEN a.position = 5 AND b.cluster = 0 THEN b.low END) AS el5, MAX(CASE WHEN a.position = 5 AND b.cluster = 0 THEN b.high END) AS eh5, MAX(CASE a.position WHEN 6 THEN a.value END) AS c6, MAX(CASE WHEN a.position = 6 AND b.cluster > 0 THEN b.low END) AS cl6, MAX(CASE WHEN a.position = 6 AND b.cluster > 0 THEN b.high END) AS ch6, MAX(CASE WHEN a.position = 6 AND b.cluster = 0 THEN b.low END) AS el6, MAX(CASE WHEN a.position = 6 AND b.cluster = 0 THEN b.high END) AS eh6, MAX(CASE a.position WHEN 7 THEN a.value END) AS c7, MAX(CASE WHEN a.position = 7 AND b.cluster > 0 THEN b.low END) AS cl7, MAX(CASE WHEN a.position = 7 AND b.cluster > 0 THEN b.high END) AS ch7, MAX(CASE WHEN a.position = 7 AND b.cluster = 0 THEN b.low END) AS el7, MAX(CASE WHEN a.position = 7 AND b.cluster = 0 THEN b.high END) AS eh7, MAX(CASE a.position WHEN 8 THEN a.value END) AS c8, MAX(CASE WHEN a.position = 8 AND b.cluster > 0 THEN b.low END) AS cl8, MAX(CASE WHEN a.position = 8 AND b.cluster > 0 THEN b.high END) AS ch8, MAX(CASE WHEN a.position = 8 AND b.cluster = 0 THEN b.low END) AS el8, MAX(CASE WHEN a.position = 8 AND b.cluster = 0 THEN b.high END) AS eh8 FROM #sqlkmeans_point AS a
            LEFT JOIN #sqlkmeans_bracket AS b
                ON b.position = a.position AND b.cluster IN (0, a.cluster)
            GROUP BY a.cluster) AS p
    ON p.cluster = s.[sqlkmeans cluster]
CROSS APPLY (VALUES (s.[sqlkmeans cluster], 1, s.[sqlkmeans o1], p.cl1, p.ch1), (0, 1, s.[sqlkmeans o1], p.el1, p.eh1), (s.[sqlkmeans cluster], 2, s.[sqlkmeans o2], p.cl2, p.ch2), (0, 2, s.[sqlkmeans o2], p.el2, p.eh2), (s.[sqlkmeans cluster], 3, s.[sqlkmeans o3], p.cl3, p.ch3), (0, 3, s.[sqlkmeans o3], p.el3, p.eh3), (s.[sqlkmeans cluster], 4, s.[sqlkmeans o4], p.cl4, p.ch4), (0, 4, s.[sqlkmeans o4], p.el4, p.eh4), (s.[sqlkmeans cluster], 5, s.[sqlkmeans o5], p.cl5, p.ch5), (0, 5, s.[sqlkmeans o5], p.el5, p.eh5), (s.[sqlkmeans cluster], 6, s.[sqlkmeans o6], p.cl6, p.ch6), (0, 6, s.[sqlkmeans o6], p.el6, p.eh6), (s.[sqlkmeans cluster], 7, s.[sqlkmeans o7], p.cl7, p.ch7), (0, 7, s.[sqlkmeans o7], p.el7, p.eh7), (s.[sqlkmeans cluster], 8, s.[sqlkmeans o8], p.cl8, p.ch8), (0, 8, s.[sqlkmeans o8], p.el8, p.eh8)) AS v (cluster, position, value, low, high)
WHERE (s.[sqlkmeans o1] BETWEEN p.cl1 AND p.ch1 OR s.[sqlkmeans o1] BETWEEN p.el1 AND p.eh1 OR s.[sqlkmeans o2] BETWEEN p.cl2 AND p.ch2 OR s.[sqlkmeans o2] BETWEEN p.el2 AND p.eh2 OR s.[sqlkmeans o3] BETWEEN p.cl3 AND p.ch3 OR s.[sqlkmeans o3] BETWEEN p.el3 AND p.eh3 OR s.[sqlkmeans o4] BETWEEN p.cl4 AND p.ch4 OR s.[sqlkmeans o4] BETWEEN p.el4 AND p.eh4 OR s.[sqlkmeans o5] BETWEEN p.cl5 AND p.ch5 OR s.[sqlkmeans o5] BETWEEN p.el5 AND p.eh5 OR s.[sqlkmeans o6] BETWEEN p.cl6 AND p.ch6 OR s.[sqlkmeans o6] BETWEEN p.el6 AND p.eh6 OR s.[sqlkmeans o7] BETWEEN p.cl7 AND p.ch7 OR s.[sqlkmeans o7] BETWEEN p.el7 AND p.eh7 OR s.[sqlkmeans o8] BETWEEN p.cl8 AND p.ch8 OR s.[sqlkmeans o8] BETWEEN p.el8 AND p.eh8) AND v.value BETWEEN v.low AND v.high
GROUP BY v.cluster, v.position, v.value;
DROP TABLE #sqlkmeans_wide;
GO
INSERT INTO sqlkmeans.[staging_1] WITH (TABLOCK) ([person_id], cluster, distance)
SELECT s.[person_id], s.segment_id, s.distance
FROM (SELECT s.[person_id], c.segment_id,
    s.[sqlkmeans distance] AS distance, s.[sqlkmeans previous], s.[sqlkmeans before], s.[sqlkmeans flagged]
FROM #sqlkmeans_scored AS s
INNER JOIN #sqlkmeans_cluster AS c ON c.cluster = s.[sqlkmeans cluster]) AS s
LEFT JOIN #sqlkmeans_limit AS o ON o.segment_id = s.segment_id
CROSS APPLY (SELECT CASE WHEN s.distance > o.outlier_distance THEN 1 ELSE 0 END AS is_outlier) AS f
WHERE s.[sqlkmeans previous] IS NULL OR s.[sqlkmeans previous] <> s.segment_id
   OR ABS(s.distance - s.[sqlkmeans before]) > @tolerance OR f.is_outlier <> s.[sqlkmeans flagged]
   OR f.is_outlier <> CASE WHEN s.[sqlkmeans before] > o.outlier_distance THEN 1 ELSE 0 END;
SET @staged = ROWCOUNT_BIG();
GO
SELECT @published = COUNT_BIG(*) FROM [dbo].[person_segment] AS t;
GO
SELECT @arrived = COUNT_BIG(*) FROM (SELECT TOP (1) 1 AS one FROM [dbo].[person_segment] WITH (TABLOCK, HOLDLOCK)) AS t;SELECT @arrived = COUNT_BIG(*) FROM (SELECT TOP (1) 1 AS one FROM [dbo].[person_segment_history] WITH (TABLOCK, HOLDLOCK)) AS t;
GO
SET NOCOUNT ON;
CREATE TABLE #sqlkmeans_cluster_segment
    (cluster int NOT NULL PRIMARY KEY, segment_id int NOT NULL, outlier_distance float NULL);
INSERT INTO #sqlkmeans_cluster_segment (cluster, segment_id, outlier_distance)
SELECT CAST(j.[key] AS int), CAST(j.[value] AS int), o.outlier_distance
FROM OPENJSON(@text) AS j
LEFT JOIN #sqlkmeans_outlier AS o ON o.segment_id = CAST(j.[value] AS int);
-- What becomes of a customer: 0 another distance alone, 1 arrives, 2 moves, 3 departs, 4 becomes an
-- outlier or ceases to be one. A distance that would lie on the wrong side of its limit is written
-- too, though it hardly changed: later it tells who is one.
SELECT s.[person_id], l.segment_id, s.distance, CAST(f.is_outlier AS bit) AS is_outlier,
    CASE WHEN t.segment_id IS NULL THEN 1 WHEN t.segment_id <> l.segment_id THEN 2
         WHEN t.is_outlier <> f.is_outlier THEN 4 ELSE 0 END
        AS [sqlkmeans change], t.assigned_at AS [sqlkmeans since]
INTO #sqlkmeans_change
FROM sqlkmeans.[staging_1] AS s
INNER JOIN #sqlkmeans_cluster_segment AS l ON l.cluster = s.cluster
CROSS APPLY (SELECT COALESCE(s.is_outlier,
    CASE WHEN s.distance > l.outlier_distance THEN 1 ELSE 0 END) AS is_outlier) AS f
LEFT JOIN [dbo].[person_segment] AS t ON t.[person_id] = s.[person_id]
WHERE s.departed = 0
  AND (t.segment_id IS NULL
       OR t.segment_id <> l.segment_id
       OR t.is_outlier <> f.is_outlier
       OR ABS(t.distance - s.distance) > @tolerance
       OR (s.is_outlier IS NULL
           AND f.is_outlier <> CASE WHEN t.distance > l.outlier_distance THEN 1 ELSE 0 END));
INSERT INTO #sqlkmeans_change ([person_id], segment_id, distance, is_outlier, [sqlkmeans change], [sqlkmeans since])
SELECT t.[person_id], 0, 0, 0, 3, t.assigned_at
FROM [dbo].[person_segment] AS t
WHERE EXISTS (SELECT 1 FROM sqlkmeans.[staging_1] AS s WHERE t.[person_id] = s.[person_id] AND s.departed = 1)
  AND NOT EXISTS (SELECT 1 FROM sqlkmeans.[staging_1] AS s WHERE t.[person_id] = s.[person_id] AND s.departed = 0);
DECLARE @ended bigint;
SELECT @arrived = COALESCE(SUM(CASE WHEN n.change = 1 THEN n.customers ELSE 0 END), 0),
    @moved = COALESCE(SUM(CASE WHEN n.change = 2 THEN n.customers ELSE 0 END), 0),
    @departed = COALESCE(SUM(CASE WHEN n.change = 3 THEN n.customers ELSE 0 END), 0),
    @ended = COALESCE(SUM(CASE WHEN n.change IN (2, 3, 4) THEN n.customers ELSE 0 END), 0),
    @written = COALESCE(SUM(n.customers), 0)
FROM (SELECT c.[sqlkmeans change] AS change, COUNT_BIG(*) AS customers
      FROM #sqlkmeans_change AS c
      GROUP BY c.[sqlkmeans change]) AS n;
-- A statement without rows could read a table to its end to find that out.
-- A label and its row of the history begin at the same time, and the history is ordered by key and
-- time: so the row is found at once, however many a customer has.
DECLARE @closed bigint = 0;
IF @ended > 0
BEGIN
UPDATE t
SET valid_to = @now
FROM [dbo].[person_segment_history] AS t
INNER JOIN #sqlkmeans_change AS c ON t.[person_id] = c.[person_id] AND t.valid_from = c.[sqlkmeans since]
WHERE t.valid_to IS NULL AND c.[sqlkmeans change] IN (2, 3, 4);
SET @closed = ROWCOUNT_BIG();
END;
-- Who arrives may have a row from before somebody deleted the label, and somebody may have changed
-- a time.
IF @arrived > 0 OR @closed < @ended
UPDATE t
SET valid_to = @now
FROM [dbo].[person_segment_history] AS t
INNER JOIN #sqlkmeans_change AS c ON t.[person_id] = c.[person_id]
WHERE t.valid_to IS NULL AND c.[sqlkmeans change] IN (1, 2, 3, 4);
IF @arrived + @ended > @departed
INSERT INTO [dbo].[person_segment_history] ([person_id], segment_id, distance, is_outlier, valid_from, valid_to, run_id)
SELECT c.[person_id], c.segment_id, c.distance, c.is_outlier, @now, NULL, @run_id
FROM #sqlkmeans_change AS c
WHERE c.[sqlkmeans change] IN (1, 2, 4);
IF @written > 0
BEGIN
-- Under READ COMMITTED with locks, one statement could otherwise read some rows before and some
-- after the change. Where READ_COMMITTED_SNAPSHOT is on, nobody waits; where not, readers wait from
-- here on, so the history is written before.
DECLARE @any int;
SELECT TOP (1) @any = t.segment_id FROM [dbo].[person_segment] AS t WITH (TABLOCKX, HOLDLOCK);
IF @ended > @departed
UPDATE t
SET segment_id = c.segment_id, distance = c.distance, is_outlier = c.is_outlier, run_id = @run_id,
    assigned_at = @now
FROM [dbo].[person_segment] AS t
INNER JOIN #sqlkmeans_change AS c ON t.[person_id] = c.[person_id]
WHERE c.[sqlkmeans change] IN (2, 4);
IF @written > @arrived + @ended
UPDATE t
SET distance = c.distance
FROM [dbo].[person_segment] AS t
INNER JOIN #sqlkmeans_change AS c ON t.[person_id] = c.[person_id]
WHERE c.[sqlkmeans change] = 0;
IF @departed > 0
DELETE t
FROM [dbo].[person_segment] AS t
INNER JOIN #sqlkmeans_change AS c ON t.[person_id] = c.[person_id]
WHERE c.[sqlkmeans change] = 3;
IF @arrived > 0
INSERT INTO [dbo].[person_segment] ([person_id], segment_id, distance, is_outlier, run_id, assigned_at)
SELECT c.[person_id], c.segment_id, c.distance, c.is_outlier, @run_id, @now
FROM #sqlkmeans_change AS c
WHERE c.[sqlkmeans change] = 1;
END;
DROP TABLE #sqlkmeans_change;
DROP TABLE #sqlkmeans_cluster_segment;
GO
INSERT INTO #sqlkmeans_held (segment_id, size) SELECT t.segment_id, COUNT_BIG(*) FROM [dbo].[person_segment] AS t GROUP BY t.segment_id;
GO
ALTER TABLE #sqlkmeans_input ADD [person_id] bigint NULL; ALTER TABLE #sqlkmeans_input ADD [sqlkmeans f1] float NULL; ALTER TABLE #sqlkmeans_input ADD [sqlkmeans f2] nvarchar(101) COLLATE DATABASE_DEFAULT NULL; ALTER TABLE #sqlkmeans_input ADD [sqlkmeans f3] float NULL; ALTER TABLE #sqlkmeans_input ADD [sqlkmeans f4] nvarchar(101) COLLATE DATABASE_DEFAULT NULL;
GO
INSERT INTO #sqlkmeans_input WITH (TABLOCK) ([sqlkmeans row], [sqlkmeans place], [person_id], [sqlkmeans previous], [sqlkmeans before], [sqlkmeans flagged], [sqlkmeans weight], [sqlkmeans f1], [sqlkmeans f2], [sqlkmeans f3], [sqlkmeans f4]) SELECT ROW_NUMBER() OVER (ORDER BY s.[person_id]), DENSE_RANK() OVER (ORDER BY s.[person_id]), s.[person_id], p.segment_id, p.distance, p.is_outlier, CAST(s.[orders] AS float), CAST(s.[income] AS float), CAST(s.[home city] AS nvarchar(101)), CAST(DATEDIFF(day, '19700101', CAST(s.[joined] AS date)) AS float), CAST(s.[plan_code] AS nvarchar(101)) FROM [dbo].[person] AS s LEFT JOIN [dbo].[person_segment] AS p ON p.[person_id] = s.[person_id]; SET @total = ROWCOUNT_BIG();
GO
SELECT @nulls = COALESCE(SUM(g.nulls * g.customers), 0),
    @repeats = COALESCE(SUM(CASE g.nulls WHEN 0 THEN g.customers - 1 END), 0)
FROM (SELECT COUNT_BIG(*) AS customers, CASE WHEN s.[person_id] IS NULL THEN 1 ELSE 0 END AS nulls FROM #sqlkmeans_input AS s GROUP BY s.[person_id]
      HAVING COUNT_BIG(*) > 1 OR s.[person_id] IS NULL) AS g;
GO
DECLARE @publication nvarchar(max);
DECLARE @language nvarchar(128) = COALESCE(JSON_VALUE(@text, '$.definition.language'), N'Python');
INSERT INTO #sqlkmeans_label (row_number, cluster, distance)
EXECUTE sys.sp_execute_external_script
    @language = @language,
    @script = N'
from sqlkmeans.external_script import run_segmentation
OutputDataSet, publication = run_segmentation(InputDataSet, job)
',
    @input_data_1 = N'SELECT [sqlkmeans row] AS row_number, [sqlkmeans previous] AS previous_segment_id, [sqlkmeans f1] AS f1, CONVERT(varchar(406), CAST([sqlkmeans f2] AS varbinary(202)), 1) AS f2, [sqlkmeans f3] AS f3, CONVERT(varchar(406), CAST([sqlkmeans f4] AS varbinary(202)), 1) AS f4, [sqlkmeans weight] AS sample_weight FROM #sqlkmeans_input',
    @params = N'@job nvarchar(max), @publication nvarchar(max) OUTPUT',
    @job = @text,
    @publication = @publication OUTPUT;
INSERT INTO #sqlkmeans_publication (content) VALUES (@publication);
GO
