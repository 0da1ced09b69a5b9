SET @arrived = 1;
GO
INSERT INTO #sqlkmeans_target_object (position, name, kind, wanted, owner, fires, marked)
SELECT n.position, sqlkmeans.quoted_name(@text, n.suffix) COLLATE DATABASE_DEFAULT, RTRIM(o.type), n.wanted,
    USER_NAME(COALESCE(o.principal_id, s.principal_id)),
    (SELECT MIN(g.name) FROM sys.triggers AS g
     WHERE g.parent_id = o.object_id AND g.is_disabled = 0),
    CASE WHEN EXISTS (SELECT 1 FROM sys.extended_properties AS e
                      WHERE e.class = 1 AND e.major_id = o.object_id AND e.minor_id = 0
                        AND e.name = N'sqlkmeans') THEN 1 ELSE 0 END
FROM (VALUES (1, N'', N'U'), (2, N'_history', N'U'), (3, N'_named', N'V'))
    AS n (position, suffix, wanted)
INNER JOIN sys.objects AS o ON o.object_id = OBJECT_ID(sqlkmeans.quoted_name(@text, n.suffix))
INNER JOIN sys.schemas AS s ON s.schema_id = o.schema_id
UNION ALL
SELECT 4, QUOTENAME(s.name) COLLATE DATABASE_DEFAULT, N'schema', N'schema', USER_NAME(s.principal_id), NULL, 1
FROM sys.schemas AS s
WHERE s.schema_id = SCHEMA_ID(COALESCE(PARSENAME(@text, 2), N'dbo'));
GO
INSERT INTO #sqlkmeans_target_column (name, type)
        SELECT c.name,
            sqlkmeans.type_text(t.name, c.max_length, c.[precision], c.scale, c.collation_name)
        FROM sys.columns AS c
        INNER JOIN sys.types AS t ON t.user_type_id = c.system_type_id
        WHERE c.object_id = OBJECT_ID(@text);
GO
UPDATE c
        SET masked = 1
        FROM #sqlkmeans_source_column AS c
        INNER JOIN sys.columns AS s
            ON s.object_id = OBJECT_ID(c.base_table) AND s.name COLLATE DATABASE_DEFAULT = c.base_column
        WHERE s.is_masked = 1;
GO
CREATE TABLE sqlkmeans.[staging_1] ([customer_id] bigint NOT NULL, cluster int NOT NULL, distance float NOT NULL, departed bit NOT NULL DEFAULT (0), PRIMARY KEY CLUSTERED ([customer_id], departed));
GO
GRANT SELECT, INSERT ON sqlkmeans.[staging_1] TO sqlkmeans_operator;
GO
SELECT @arrived = COUNT_BIG(*) FROM sqlkmeans.[staging_1];
GO
SELECT @arrived = OBJECT_ID(N'[dbo].[customer_segment]'), @moved = OBJECT_ID(N'[dbo].[customer_segment_history]'), @departed = OBJECT_ID(N'[dbo].[customer_segment_named]');
GO
INSERT INTO #sqlkmeans_table_column (name, type)
        SELECT c.name,
            sqlkmeans.type_text(t.name, c.max_length, c.[precision], c.scale, c.collation_name)
        FROM sys.columns AS c
        INNER JOIN sys.types AS t ON t.user_type_id = c.system_type_id
        WHERE c.object_id = OBJECT_ID(@text);
GO
CREATE TABLE [dbo].[customer_segment_history] ([customer_id] bigint NOT NULL, segment_id int NOT NULL, distance float NOT NULL, valid_from datetime2(6) NOT NULL, valid_to datetime2(6) NULL, run_id bigint NOT NULL, PRIMARY KEY CLUSTERED ([customer_id], valid_from));
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
CREATE TABLE [dbo].[customer_segment] ([customer_id] bigint NOT NULL, segment_id int NOT NULL, distance float NOT NULL, run_id bigint NOT NULL, assigned_at datetime2(6) NOT NULL, PRIMARY KEY CLUSTERED ([customer_id]));
GO
DECLARE @value nvarchar(128) = @text;
DECLARE @schema nvarchar(128) = N'dbo';
DECLARE @object nvarchar(128) = N'customer_segment';
EXECUTE sys.sp_addextendedproperty @name = N'sqlkmeans', @value = @value,
    @level0type = N'SCHEMA', @level0name = @schema,
    @level1type = N'TABLE', @level1name = @object;
GRANT SELECT ON [dbo].[customer_segment] TO sqlkmeans_reader;
GO
CREATE VIEW [dbo].[customer_segment_named] AS SELECT t.[customer_id], t.segment_id, t.distance, t.run_id, t.assigned_at, s.name AS segment_name FROM [dbo].[customer_segment] AS t INNER JOIN sqlkmeans.segmentation AS g ON g.name = N'customers' LEFT JOIN sqlkmeans.segment AS s ON s.run_id = g.active_run_id AND s.segment_id = t.segment_id;
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
CREATE TABLE #sqlkmeans_cluster_segment (cluster int NOT NULL PRIMARY KEY, segment_id int NOT NULL);
INSERT INTO #sqlkmeans_cluster_segment (cluster, segment_id)
SELECT CAST(j.[key] AS int), CAST(j.[value] AS int) FROM OPENJSON(@text) AS j;
UPDATE [dbo].[customer_segment_history] SET valid_to = @now WHERE valid_to IS NULL;
INSERT INTO [dbo].[customer_segment] WITH (TABLOCK) ([customer_id], segment_id, distance, run_id, assigned_at)
SELECT s.[customer_id], l.segment_id, s.distance, @run_id, @now
FROM sqlkmeans.[staging_1] AS s
INNER JOIN #sqlkmeans_cluster_segment AS l ON l.cluster = s.cluster
WHERE s.departed = 0
ORDER BY s.[customer_id];
SET @arrived = ROWCOUNT_BIG();
INSERT INTO [dbo].[customer_segment_history] WITH (TABLOCK) ([customer_id], segment_id, distance, valid_from, valid_to, run_id)
SELECT t.[customer_id], t.segment_id, t.distance, @now, NULL, @run_id
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
    (1, N'younger, low income', 0.5e0, 0.5e0),
    (2, N'older', 0.5e0, 0.5e0),
    (3, N'very high income, much older', 0.5e0, 0.5e0)) AS c (segment_id, segment_name, c1, c2)
CROSS APPLY (SELECT (z.z1 - c.c1) * (z.z1 - c.c1) + (z.z2 - c.c2) * (z.z2 - c.c2) AS squared_distance) AS d
WHERE c.segment_id <> n.segment_id) AS runner_up_distance
FROM (SELECT @income AS o1, @age AS o2) AS o
CROSS APPLY (SELECT COALESCE(o.o1, 0.5e0) AS x1, COALESCE(o.o2, 0.5e0) AS x2) AS x
CROSS APPLY (SELECT x.x1 AS t1, CASE WHEN 1e0 + x.x2 = 1e0 THEN x.x2 WHEN x.x2 > -1e0 THEN LOG(1e0 + x.x2) * (x.x2 / ((1e0 + x.x2) - 1e0)) END AS t2) AS t
CROSS APPLY (SELECT (t.t1 - (0.5e0)) / 0.5e0 AS z1, (t.t2 - (0.5e0)) / 0.5e0 AS z2) AS z
OUTER APPLY (SELECT TOP (1) c.segment_id, c.segment_name, d.squared_distance
FROM (VALUES
    (1, N'younger, low income', 0.5e0, 0.5e0),
    (2, N'older', 0.5e0, 0.5e0),
    (3, N'very high income, much older', 0.5e0, 0.5e0)) AS c (segment_id, segment_name, c1, c2)
CROSS APPLY (SELECT (z.z1 - c.c1) * (z.z1 - c.c1) + (z.z2 - c.c2) * (z.z2 - c.c2) AS squared_distance) AS d
WHERE d.squared_distance IS NOT NULL
ORDER BY d.squared_distance, c.segment_id) AS n
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
        SELECT
            MAX(CASE WHEN h.valid_from <= a.published_at
                      AND (h.valid_to IS NULL OR h.valid_to > a.published_at)
                     THEN h.segment_id END) AS from_segment_id,
            MAX(CASE WHEN h.valid_from <= b.published_at
                      AND (h.valid_to IS NULL OR h.valid_to > b.published_at)
                     THEN h.segment_id END) AS to_segment_id
        FROM [dbo].[customer_segment_history] AS h
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
CREATE TABLE #sqlkmeans_cluster_segment (cluster int NOT NULL PRIMARY KEY, segment_id int NOT NULL);
INSERT INTO #sqlkmeans_cluster_segment (cluster, segment_id)
SELECT CAST(j.[key] AS int), CAST(j.[value] AS int) FROM OPENJSON(@text) AS j;
-- What becomes of a customer: 0 another distance alone, 1 arrives, 2 moves, 3 departs.
SELECT s.[customer_id], l.segment_id, s.distance,
    CASE WHEN t.segment_id IS NULL THEN 1 WHEN t.segment_id <> l.segment_id THEN 2 ELSE 0 END
        AS [sqlkmeans change], t.assigned_at AS [sqlkmeans since]
INTO #sqlkmeans_change
FROM sqlkmeans.[staging_1] AS s
INNER JOIN #sqlkmeans_cluster_segment AS l ON l.cluster = s.cluster
LEFT JOIN [dbo].[customer_segment] AS t ON t.[customer_id] = s.[customer_id]
WHERE s.departed = 0
  AND (t.segment_id IS NULL
       OR t.segment_id <> l.segment_id
       OR ABS(t.distance - s.distance) > @tolerance);
INSERT INTO #sqlkmeans_change ([customer_id], segment_id, distance, [sqlkmeans change], [sqlkmeans since])
SELECT t.[customer_id], 0, 0, 3, t.assigned_at
FROM [dbo].[customer_segment] AS t
WHERE EXISTS (SELECT 1 FROM sqlkmeans.[staging_1] AS s WHERE t.[customer_id] = s.[customer_id] AND s.departed = 1)
  AND NOT EXISTS (SELECT 1 FROM sqlkmeans.[staging_1] AS s WHERE t.[customer_id] = s.[customer_id] AND s.departed = 0);
SELECT @arrived = COALESCE(SUM(CASE WHEN n.change = 1 THEN n.customers ELSE 0 END), 0),
    @moved = COALESCE(SUM(CASE WHEN n.change = 2 THEN n.customers ELSE 0 END), 0),
    @departed = COALESCE(SUM(CASE WHEN n.change = 3 THEN n.customers ELSE 0 END), 0),
    @written = COALESCE(SUM(n.customers), 0)
FROM (SELECT c.[sqlkmeans change] AS change, COUNT_BIG(*) AS customers
      FROM #sqlkmeans_change AS c
      GROUP BY c.[sqlkmeans change]) AS n;
-- A statement without rows could read a table to its end to find that out.
-- A label and its row of the history begin at the same time, and the history is ordered by key and
-- time: so the row is found at once, however many a customer has.
DECLARE @closed bigint = 0;
IF @moved + @departed > 0
BEGIN
UPDATE t
SET valid_to = @now
FROM [dbo].[customer_segment_history] AS t
INNER JOIN #sqlkmeans_change AS c ON t.[customer_id] = c.[customer_id] AND t.valid_from = c.[sqlkmeans since]
WHERE t.valid_to IS NULL AND c.[sqlkmeans change] IN (2, 3);
SET @closed = ROWCOUNT_BIG();
END;
-- Who arrives may have a row from before somebody deleted the label, and somebody may have changed
-- a time.
IF @arrived > 0 OR @closed < @moved + @departed
UPDATE t
SET valid_to = @now
FROM [dbo].[customer_segment_history] AS t
INNER JOIN #sqlkmeans_change AS c ON t.[customer_id] = c.[customer_id]
WHERE t.valid_to IS NULL AND c.[sqlkmeans change] IN (1, 2, 3);
IF @arrived + @moved > 0
INSERT INTO [dbo].[customer_segment_history] ([customer_id], segment_id, distance, valid_from, valid_to, run_id)
SELECT c.[customer_id], c.segment_id, c.distance, @now, NULL, @run_id
FROM #sqlkmeans_change AS c
WHERE c.[sqlkmeans change] IN (1, 2);
IF @written > 0
BEGIN
-- Under READ COMMITTED with locks, one statement could otherwise read some rows before and some
-- after the change. Where READ_COMMITTED_SNAPSHOT is on, nobody waits; where not, readers wait from
-- here on, so the history is written before.
DECLARE @any int;
SELECT TOP (1) @any = t.segment_id FROM [dbo].[customer_segment] AS t WITH (TABLOCKX, HOLDLOCK);
IF @moved > 0
UPDATE t
SET segment_id = c.segment_id, distance = c.distance, run_id = @run_id, assigned_at = @now
FROM [dbo].[customer_segment] AS t
INNER JOIN #sqlkmeans_change AS c ON t.[customer_id] = c.[customer_id]
WHERE c.[sqlkmeans change] = 2;
IF @written > @arrived + @moved + @departed
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
INSERT INTO [dbo].[customer_segment] ([customer_id], segment_id, distance, run_id, assigned_at)
SELECT c.[customer_id], c.segment_id, c.distance, @run_id, @now
FROM #sqlkmeans_change AS c
WHERE c.[sqlkmeans change] = 1;
END;
DROP TABLE #sqlkmeans_change;
DROP TABLE #sqlkmeans_cluster_segment;
GO
INSERT INTO #sqlkmeans_held (segment_id, size) SELECT t.segment_id, COUNT_BIG(*) FROM [dbo].[customer_segment] AS t GROUP BY t.segment_id;
GO
SELECT s.[customer_id], o.o1 AS [sqlkmeans o1], o.o2 AS [sqlkmeans o2], z.z1 AS [sqlkmeans z1], z.z2 AS [sqlkmeans z2] INTO #sqlkmeans_prepared FROM [dbo].[customer] AS s CROSS APPLY (SELECT CAST(s.[income] AS float) AS o1, CAST(s.[age] AS float) AS o2) AS o
CROSS APPLY (SELECT COALESCE(o.o1, 0.5e0) AS x1, COALESCE(o.o2, 0.5e0) AS x2) AS x
CROSS APPLY (SELECT x.x1 AS t1, CASE WHEN 1e0 + x.x2 = 1e0 THEN x.x2 WHEN x.x2 > -1e0 THEN LOG(1e0 + x.x2) * (x.x2 / ((1e0 + x.x2) - 1e0)) END AS t2) AS t
CROSS APPLY (SELECT (t.t1 - (0.5e0)) / 0.5e0 AS z1, (t.t2 - (0.5e0)) / 0.5e0 AS z2) AS z;
SET @total = ROWCOUNT_BIG();
SELECT z.[customer_id], n.segment_id AS [sqlkmeans cluster], SQRT(n.squared_distance) AS [sqlkmeans distance], z.[sqlkmeans o1], z.[sqlkmeans o2] INTO #sqlkmeans_scored FROM #sqlkmeans_prepared AS z
OUTER APPLY (SELECT TOP (1) c.segment_id, c.segment_name, d.squared_distance
FROM (VALUES
    (1, N'younger, low income', 0.5e0, 0.5e0),
    (2, N'older', 0.5e0, 0.5e0),
    (3, N'very high income, much older', 0.5e0, 0.5e0)) AS c (segment_id, segment_name, c1, c2)
CROSS APPLY (SELECT (z.[sqlkmeans z1] - c.c1) * (z.[sqlkmeans z1] - c.c1) + (z.[sqlkmeans z2] - c.c2) * (z.[sqlkmeans z2] - c.c2) AS squared_distance) AS d
WHERE d.squared_distance IS NOT NULL
ORDER BY d.squared_distance, c.segment_id) AS n;
DROP TABLE #sqlkmeans_prepared;
EXECUTE sqlkmeans.check_keys @relation = N'#sqlkmeans_scored AS s', @key = @key;
INSERT INTO sqlkmeans.[staging_1] ([customer_id], cluster, distance) SELECT s.[customer_id], s.[sqlkmeans cluster], s.[sqlkmeans distance] FROM #sqlkmeans_scored AS s
WHERE s.[sqlkmeans cluster] IS NOT NULL;
SET @rows = ROWCOUNT_BIG();
INSERT INTO #sqlkmeans_size (segment_id, size, within_ss)
SELECT l.cluster, COUNT_BIG(*), SUM(l.distance * l.distance) FROM sqlkmeans.[staging_1] AS l GROUP BY l.cluster;
INSERT INTO #sqlkmeans_profile
    (segment_id, position, mean, lowest, highest, known, missing)
SELECT COALESCE(s.[sqlkmeans cluster], 0), v.position, AVG(v.value), MIN(v.value), MAX(v.value),
    COUNT_BIG(v.value), COUNT_BIG(*) - COUNT_BIG(v.value)
FROM #sqlkmeans_scored AS s
CROSS APPLY (VALUES (1, s.[sqlkmeans o1]), (2, s.[sqlkmeans o2])) AS v (position, value)
WHERE s.[sqlkmeans cluster] IS NOT NULL
GROUP BY GROUPING SETS ((s.[sqlkmeans cluster], v.position), (v.position));
UPDATE p
SET mean = p.mean + d.rest, deviation = CASE
    WHEN p.highest > p.lowest AND d.squares > d.rest * d.rest THEN SQRT(d.squares - d.rest * d.rest)
    WHEN p.known > 0 THEN 0e0 END
FROM #sqlkmeans_profile AS p
INNER JOIN (
    SELECT k.segment_id, k.position, AVG(v.value - k.mean) AS rest,
        AVG((v.value - k.mean) * (v.value - k.mean)) AS squares
    FROM #sqlkmeans_scored AS s
    CROSS APPLY (VALUES (1, s.[sqlkmeans o1]), (2, s.[sqlkmeans o2])) AS v (position, value)
    CROSS APPLY (VALUES (0), (s.[sqlkmeans cluster])) AS g (segment_id)
    INNER JOIN #sqlkmeans_profile AS k ON k.segment_id = g.segment_id AND k.position = v.position
    WHERE s.[sqlkmeans cluster] IS NOT NULL
    GROUP BY k.segment_id, k.position
) AS d ON d.segment_id = p.segment_id AND d.position = p.position;
UPDATE p
SET median = m.median
FROM #sqlkmeans_profile AS p
INNER JOIN (
    SELECT r.segment_id, r.position, AVG(r.value) AS median
    FROM (
        SELECT g.segment_id, v.position, v.value,
            ROW_NUMBER() OVER (PARTITION BY g.segment_id, v.position ORDER BY v.value) AS n
        FROM #sqlkmeans_scored AS s
        CROSS APPLY (VALUES (1, s.[sqlkmeans o1]), (2, s.[sqlkmeans o2])) AS v (position, value)
        CROSS APPLY (VALUES (0), (s.[sqlkmeans cluster])) AS g (segment_id)
        WHERE s.[sqlkmeans cluster] IS NOT NULL AND v.value IS NOT NULL
    ) AS r
    INNER JOIN #sqlkmeans_profile AS k ON k.segment_id = r.segment_id AND k.position = r.position
    WHERE r.n IN ((k.known + 1) / 2, (k.known + 2) / 2)
    GROUP BY r.segment_id, r.position
) AS m ON m.segment_id = p.segment_id AND m.position = p.position;
SELECT @mean_distance = AVG(l.distance) FROM sqlkmeans.[staging_1] AS l;
INSERT INTO #sqlkmeans_bin (position, bin, customers)
SELECT v.position, v.bin, COUNT_BIG(*)
FROM #sqlkmeans_scored AS s
CROSS APPLY (VALUES (1, CASE WHEN s.[sqlkmeans o1] IS NULL THEN 0 WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 2 WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 3 WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 4 WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 5 WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 6 WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 7 WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 8 WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 9 ELSE 10 END), (2, CASE WHEN s.[sqlkmeans o2] IS NULL THEN 0 WHEN s.[sqlkmeans o2] <= 0.5e0 THEN 1 WHEN s.[sqlkmeans o2] <= 0.5e0 THEN 2 ELSE 3 END)) AS v (position, bin)
WHERE s.[sqlkmeans cluster] IS NOT NULL
GROUP BY v.position, v.bin;
GO
SELECT @nulls = COALESCE(SUM(CAST(CASE WHEN s.[customer_id] IS NULL THEN 1 ELSE 0 END AS bigint)), 0) FROM #sqlkmeans_scored AS s;
SELECT @repeats = COALESCE(SUM(g.customers - 1), 0)
FROM (SELECT COUNT_BIG(*) AS customers FROM #sqlkmeans_scored AS s WHERE s.[customer_id] IS NOT NULL GROUP BY s.[customer_id] HAVING COUNT_BIG(*) > 1) AS g;
GO
SET NOCOUNT ON;
CREATE TABLE #sqlkmeans_cluster_segment (cluster int NOT NULL PRIMARY KEY, segment_id int NOT NULL);
INSERT INTO #sqlkmeans_cluster_segment (cluster, segment_id)
SELECT CAST(j.[key] AS int), CAST(j.[value] AS int) FROM OPENJSON(@text) AS j;
-- What becomes of a customer: 0 another distance alone, 1 arrives, 2 moves, 3 departs.
SELECT s.[customer_id], l.segment_id, s.distance,
    CASE WHEN t.segment_id IS NULL THEN 1 WHEN t.segment_id <> l.segment_id THEN 2 ELSE 0 END
        AS [sqlkmeans change], t.assigned_at AS [sqlkmeans since]
INTO #sqlkmeans_change
FROM sqlkmeans.[staging_1] AS s
INNER JOIN #sqlkmeans_cluster_segment AS l ON l.cluster = s.cluster
LEFT JOIN [dbo].[customer_segment] AS t ON t.[customer_id] = s.[customer_id]
WHERE s.departed = 0
  AND (t.segment_id IS NULL
       OR t.segment_id <> l.segment_id
       OR ABS(t.distance - s.distance) > @tolerance);
INSERT INTO #sqlkmeans_change ([customer_id], segment_id, distance, [sqlkmeans change], [sqlkmeans since])
SELECT t.[customer_id], 0, 0, 3, t.assigned_at
FROM [dbo].[customer_segment] AS t
WHERE NOT EXISTS (SELECT 1 FROM sqlkmeans.[staging_1] AS s WHERE t.[customer_id] = s.[customer_id] AND s.departed = 0);
SELECT @arrived = COALESCE(SUM(CASE WHEN n.change = 1 THEN n.customers ELSE 0 END), 0),
    @moved = COALESCE(SUM(CASE WHEN n.change = 2 THEN n.customers ELSE 0 END), 0),
    @departed = COALESCE(SUM(CASE WHEN n.change = 3 THEN n.customers ELSE 0 END), 0),
    @written = COALESCE(SUM(n.customers), 0)
FROM (SELECT c.[sqlkmeans change] AS change, COUNT_BIG(*) AS customers
      FROM #sqlkmeans_change AS c
      GROUP BY c.[sqlkmeans change]) AS n;
-- A statement without rows could read a table to its end to find that out.
-- A label and its row of the history begin at the same time, and the history is ordered by key and
-- time: so the row is found at once, however many a customer has.
DECLARE @closed bigint = 0;
IF @moved + @departed > 0
BEGIN
UPDATE t
SET valid_to = @now
FROM [dbo].[customer_segment_history] AS t
INNER JOIN #sqlkmeans_change AS c ON t.[customer_id] = c.[customer_id] AND t.valid_from = c.[sqlkmeans since]
WHERE t.valid_to IS NULL AND c.[sqlkmeans change] IN (2, 3);
SET @closed = ROWCOUNT_BIG();
END;
-- Who arrives may have a row from before somebody deleted the label, and somebody may have changed
-- a time.
IF @arrived > 0 OR @closed < @moved + @departed
UPDATE t
SET valid_to = @now
FROM [dbo].[customer_segment_history] AS t
INNER JOIN #sqlkmeans_change AS c ON t.[customer_id] = c.[customer_id]
WHERE t.valid_to IS NULL AND c.[sqlkmeans change] IN (1, 2, 3);
IF @arrived + @moved > 0
INSERT INTO [dbo].[customer_segment_history] ([customer_id], segment_id, distance, valid_from, valid_to, run_id)
SELECT c.[customer_id], c.segment_id, c.distance, @now, NULL, @run_id
FROM #sqlkmeans_change AS c
WHERE c.[sqlkmeans change] IN (1, 2);
IF @written > 0
BEGIN
-- Under READ COMMITTED with locks, one statement could otherwise read some rows before and some
-- after the change. Where READ_COMMITTED_SNAPSHOT is on, nobody waits; where not, readers wait from
-- here on, so the history is written before.
DECLARE @any int;
SELECT TOP (1) @any = t.segment_id FROM [dbo].[customer_segment] AS t WITH (TABLOCKX, HOLDLOCK);
IF @moved > 0
UPDATE t
SET segment_id = c.segment_id, distance = c.distance, run_id = @run_id, assigned_at = @now
FROM [dbo].[customer_segment] AS t
INNER JOIN #sqlkmeans_change AS c ON t.[customer_id] = c.[customer_id]
WHERE c.[sqlkmeans change] = 2;
IF @written > @arrived + @moved + @departed
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
INSERT INTO [dbo].[customer_segment] ([customer_id], segment_id, distance, run_id, assigned_at)
SELECT c.[customer_id], c.segment_id, c.distance, @run_id, @now
FROM #sqlkmeans_change AS c
WHERE c.[sqlkmeans change] = 1;
END;
DROP TABLE #sqlkmeans_change;
DROP TABLE #sqlkmeans_cluster_segment;
GO
ALTER TABLE #sqlkmeans_input ADD [customer_id] bigint NULL; ALTER TABLE #sqlkmeans_input ADD [sqlkmeans f1] float NULL; ALTER TABLE #sqlkmeans_input ADD [sqlkmeans f2] float NULL;
GO
INSERT INTO #sqlkmeans_input ([sqlkmeans row], [customer_id], [sqlkmeans previous], [sqlkmeans f1], [sqlkmeans f2]) SELECT ROW_NUMBER() OVER (ORDER BY s.[customer_id]), s.[customer_id], p.segment_id, CAST(s.[income] AS float), CAST(s.[age] AS float) FROM [dbo].[customer] AS s LEFT JOIN [dbo].[customer_segment] AS p ON p.[customer_id] = s.[customer_id]; SET @total = ROWCOUNT_BIG();
GO
SELECT @nulls = COALESCE(SUM(CAST(CASE WHEN s.[customer_id] IS NULL THEN 1 ELSE 0 END AS bigint)), 0) FROM #sqlkmeans_input AS s;
SELECT @repeats = COALESCE(SUM(g.customers - 1), 0)
FROM (SELECT COUNT_BIG(*) AS customers FROM #sqlkmeans_input AS s WHERE s.[customer_id] IS NOT NULL GROUP BY s.[customer_id] HAVING COUNT_BIG(*) > 1) AS g;
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
INSERT INTO sqlkmeans.[staging_1] ([customer_id], cluster, distance) SELECT [customer_id], segment_id, distance FROM [dbo].[customer_segment_history] WHERE valid_from <= @then AND (valid_to IS NULL OR valid_to > @then); SET @arrived = ROWCOUNT_BIG();
GO
ALTER FUNCTION sqlkmeans.[assign_customers] (@income float, @age float)
RETURNS TABLE
AS
RETURN (
SELECT n.segment_id, n.segment_name, SQRT(n.squared_distance) AS distance,
    (SELECT SQRT(MIN(d.squared_distance))
FROM (VALUES
    (1, N'younger, low income', 0.5e0, 0.5e0),
    (2, N'older', 0.5e0, 0.5e0),
    (3, N'very high income, much older', 0.5e0, 0.5e0)) AS c (segment_id, segment_name, c1, c2)
CROSS APPLY (SELECT (z.z1 - c.c1) * (z.z1 - c.c1) + (z.z2 - c.c2) * (z.z2 - c.c2) AS squared_distance) AS d
WHERE c.segment_id <> n.segment_id) AS runner_up_distance
FROM (SELECT @income AS o1, @age AS o2) AS o
CROSS APPLY (SELECT COALESCE(o.o1, 0.5e0) AS x1, COALESCE(o.o2, 0.5e0) AS x2) AS x
CROSS APPLY (SELECT x.x1 AS t1, CASE WHEN 1e0 + x.x2 = 1e0 THEN x.x2 WHEN x.x2 > -1e0 THEN LOG(1e0 + x.x2) * (x.x2 / ((1e0 + x.x2) - 1e0)) END AS t2) AS t
CROSS APPLY (SELECT (t.t1 - (0.5e0)) / 0.5e0 AS z1, (t.t2 - (0.5e0)) / 0.5e0 AS z2) AS z
OUTER APPLY (SELECT TOP (1) c.segment_id, c.segment_name, d.squared_distance
FROM (VALUES
    (1, N'younger, low income', 0.5e0, 0.5e0),
    (2, N'older', 0.5e0, 0.5e0),
    (3, N'very high income, much older', 0.5e0, 0.5e0)) AS c (segment_id, segment_name, c1, c2)
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
    (1, N'it''s', 0.5e0, 0.5e0),
    (2, N'older', 0.5e0, 0.5e0),
    (3, N'very high income, much older', 0.5e0, 0.5e0)) AS c (segment_id, segment_name, c1, c2)
CROSS APPLY (SELECT (z.z1 - c.c1) * (z.z1 - c.c1) + (z.z2 - c.c2) * (z.z2 - c.c2) AS squared_distance) AS d
WHERE c.segment_id <> n.segment_id) AS runner_up_distance
FROM (SELECT @income AS o1, @age AS o2) AS o
CROSS APPLY (SELECT COALESCE(o.o1, 0.5e0) AS x1, COALESCE(o.o2, 0.5e0) AS x2) AS x
CROSS APPLY (SELECT x.x1 AS t1, CASE WHEN 1e0 + x.x2 = 1e0 THEN x.x2 WHEN x.x2 > -1e0 THEN LOG(1e0 + x.x2) * (x.x2 / ((1e0 + x.x2) - 1e0)) END AS t2) AS t
CROSS APPLY (SELECT (t.t1 - (0.5e0)) / 0.5e0 AS z1, (t.t2 - (0.5e0)) / 0.5e0 AS z2) AS z
OUTER APPLY (SELECT TOP (1) c.segment_id, c.segment_name, d.squared_distance
FROM (VALUES
    (1, N'it''s', 0.5e0, 0.5e0),
    (2, N'older', 0.5e0, 0.5e0),
    (3, N'very high income, much older', 0.5e0, 0.5e0)) AS c (segment_id, segment_name, c1, c2)
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
CREATE TABLE sqlkmeans.[staging_1] ([person_id] bigint NOT NULL, cluster int NOT NULL, distance float NOT NULL, departed bit NOT NULL DEFAULT (0), PRIMARY KEY CLUSTERED ([person_id], departed));
GO
SELECT @arrived = OBJECT_ID(N'[dbo].[person_segment]'), @moved = OBJECT_ID(N'[dbo].[person_segment_history]'), @departed = OBJECT_ID(N'[dbo].[person_segment_named]');
GO
CREATE TABLE [dbo].[person_segment_history] ([person_id] bigint NOT NULL, segment_id int NOT NULL, distance float NOT NULL, valid_from datetime2(6) NOT NULL, valid_to datetime2(6) NULL, run_id bigint NOT NULL, PRIMARY KEY CLUSTERED ([person_id], valid_from));
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
CREATE TABLE [dbo].[person_segment] ([person_id] bigint NOT NULL, segment_id int NOT NULL, distance float NOT NULL, run_id bigint NOT NULL, assigned_at datetime2(6) NOT NULL, PRIMARY KEY CLUSTERED ([person_id]));
GO
DECLARE @value nvarchar(128) = @text;
DECLARE @schema nvarchar(128) = N'dbo';
DECLARE @object nvarchar(128) = N'person_segment';
EXECUTE sys.sp_addextendedproperty @name = N'sqlkmeans', @value = @value,
    @level0type = N'SCHEMA', @level0name = @schema,
    @level1type = N'TABLE', @level1name = @object;
GRANT SELECT ON [dbo].[person_segment] TO sqlkmeans_reader;
GO
CREATE VIEW [dbo].[person_segment_named] AS SELECT t.[person_id], t.segment_id, t.distance, t.run_id, t.assigned_at, s.name AS segment_name FROM [dbo].[person_segment] AS t INNER JOIN sqlkmeans.segmentation AS g ON g.name = N'people' LEFT JOIN sqlkmeans.segment AS s ON s.run_id = g.active_run_id AND s.segment_id = t.segment_id;
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
CREATE TABLE #sqlkmeans_cluster_segment (cluster int NOT NULL PRIMARY KEY, segment_id int NOT NULL);
INSERT INTO #sqlkmeans_cluster_segment (cluster, segment_id)
SELECT CAST(j.[key] AS int), CAST(j.[value] AS int) FROM OPENJSON(@text) AS j;
UPDATE [dbo].[person_segment_history] SET valid_to = @now WHERE valid_to IS NULL;
INSERT INTO [dbo].[person_segment] WITH (TABLOCK) ([person_id], segment_id, distance, run_id, assigned_at)
SELECT s.[person_id], l.segment_id, s.distance, @run_id, @now
FROM sqlkmeans.[staging_1] AS s
INNER JOIN #sqlkmeans_cluster_segment AS l ON l.cluster = s.cluster
WHERE s.departed = 0
ORDER BY s.[person_id];
SET @arrived = ROWCOUNT_BIG();
INSERT INTO [dbo].[person_segment_history] WITH (TABLOCK) ([person_id], segment_id, distance, valid_from, valid_to, run_id)
SELECT t.[person_id], t.segment_id, t.distance, @now, NULL, @run_id
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
    (1, N'name 1', 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0),
    (2, N'name 2', 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0),
    (3, N'name 3', 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0),
    (4, N'name 4', 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0)) AS c (segment_id, segment_name, c1, c2, c3, c4, c5, c6, c7, c8)
CROSS APPLY (SELECT (z.z1 - c.c1) * (z.z1 - c.c1) + (z.z2 - c.c2) * (z.z2 - c.c2) + (z.z3 - c.c3) * (z.z3 - c.c3) + (z.z4 - c.c4) * (z.z4 - c.c4) + (z.z5 - c.c5) * (z.z5 - c.c5) + (z.z6 - c.c6) * (z.z6 - c.c6) + (z.z7 - c.c7) * (z.z7 - c.c7) + (z.z8 - c.c8) * (z.z8 - c.c8) AS squared_distance) AS d
WHERE c.segment_id <> n.segment_id) AS runner_up_distance
FROM (SELECT CASE WHEN @income < 0.5e0 THEN 0.5e0 WHEN @income > 0.5e0 THEN 0.5e0 ELSE @income END AS o1, CASE WHEN @feature_2 IS NULL THEN NULL WHEN (@feature_2 + N'.') COLLATE Latin1_General_100_BIN2 IN (N'Oslo.') THEN 1e0 ELSE 0e0 END AS o2, CASE WHEN @feature_2 IS NULL THEN NULL WHEN (@feature_2 + N'.') COLLATE Latin1_General_100_BIN2 IN (N'São Paulo.') THEN 1e0 ELSE 0e0 END AS o3, CASE WHEN @feature_2 IS NULL THEN NULL WHEN (@feature_2 + N'.') COLLATE Latin1_General_100_BIN2 IN (N'it''s.') THEN 1e0 ELSE 0e0 END AS o4, CASE WHEN @feature_2 IS NULL THEN NULL WHEN (@feature_2 + N'.') COLLATE Latin1_General_100_BIN2 IN (N'Oslo.', N'São Paulo.', N'it''s.') THEN 0e0 ELSE 1e0 END AS o5, CASE WHEN CAST(DATEDIFF(day, @joined, '20260101') AS float) < 0.5e0 THEN 0.5e0 WHEN CAST(DATEDIFF(day, @joined, '20260101') AS float) > 0.5e0 THEN 0.5e0 ELSE CAST(DATEDIFF(day, @joined, '20260101') AS float) END AS o6, CASE WHEN @plan_code IS NULL THEN NULL WHEN (@plan_code + N'.') COLLATE Latin1_General_100_BIN2 IN (N'1.') THEN 1e0 ELSE 0e0 END AS o7, CASE WHEN @plan_code IS NULL THEN NULL WHEN (@plan_code + N'.') COLLATE Latin1_General_100_BIN2 IN (N'1.') THEN 0e0 ELSE 1e0 END AS o8) AS o
CROSS APPLY (SELECT COALESCE(o.o1, 0.5e0) AS x1, COALESCE(o.o2, 0.5e0) AS x2, COALESCE(o.o3, 0.5e0) AS x3, COALESCE(o.o4, 0.5e0) AS x4, COALESCE(o.o5, 0.5e0) AS x5, COALESCE(o.o6, 0.5e0) AS x6, COALESCE(o.o7, 0.5e0) AS x7, COALESCE(o.o8, 0.5e0) AS x8) AS x
CROSS APPLY (SELECT CASE WHEN 1e0 + x.x1 = 1e0 THEN x.x1 WHEN x.x1 > -1e0 THEN LOG(1e0 + x.x1) * (x.x1 / ((1e0 + x.x1) - 1e0)) END AS t1, x.x2 AS t2, x.x3 AS t3, x.x4 AS t4, x.x5 AS t5, CASE WHEN 1e0 + x.x6 = 1e0 THEN x.x6 WHEN x.x6 > -1e0 THEN LOG(1e0 + x.x6) * (x.x6 / ((1e0 + x.x6) - 1e0)) END AS t6, x.x7 AS t7, x.x8 AS t8) AS t
CROSS APPLY (SELECT (t.t1 - (0.5e0)) / 0.5e0 AS z1, (t.t2 - (0.5e0)) / 0.5e0 AS z2, (t.t3 - (0.5e0)) / 0.5e0 AS z3, (t.t4 - (0.5e0)) / 0.5e0 AS z4, (t.t5 - (0.5e0)) / 0.5e0 AS z5, (t.t6 - (0.5e0)) / 0.5e0 AS z6, (t.t7 - (0.5e0)) / 0.5e0 AS z7, (t.t8 - (0.5e0)) / 0.5e0 AS z8) AS z
OUTER APPLY (SELECT TOP (1) c.segment_id, c.segment_name, d.squared_distance
FROM (VALUES
    (1, N'name 1', 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0),
    (2, N'name 2', 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0),
    (3, N'name 3', 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0),
    (4, N'name 4', 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0)) AS c (segment_id, segment_name, c1, c2, c3, c4, c5, c6, c7, c8)
CROSS APPLY (SELECT (z.z1 - c.c1) * (z.z1 - c.c1) + (z.z2 - c.c2) * (z.z2 - c.c2) + (z.z3 - c.c3) * (z.z3 - c.c3) + (z.z4 - c.c4) * (z.z4 - c.c4) + (z.z5 - c.c5) * (z.z5 - c.c5) + (z.z6 - c.c6) * (z.z6 - c.c6) + (z.z7 - c.c7) * (z.z7 - c.c7) + (z.z8 - c.c8) * (z.z8 - c.c8) AS squared_distance) AS d
WHERE d.squared_distance IS NOT NULL
ORDER BY d.squared_distance, c.segment_id) AS n
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
        SELECT
            MAX(CASE WHEN h.valid_from <= a.published_at
                      AND (h.valid_to IS NULL OR h.valid_to > a.published_at)
                     THEN h.segment_id END) AS from_segment_id,
            MAX(CASE WHEN h.valid_from <= b.published_at
                      AND (h.valid_to IS NULL OR h.valid_to > b.published_at)
                     THEN h.segment_id END) AS to_segment_id
        FROM [dbo].[customer_segment_history] AS h
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
        SELECT
            MAX(CASE WHEN h.valid_from <= a.published_at
                      AND (h.valid_to IS NULL OR h.valid_to > a.published_at)
                     THEN h.segment_id END) AS from_segment_id,
            MAX(CASE WHEN h.valid_from <= b.published_at
                      AND (h.valid_to IS NULL OR h.valid_to > b.published_at)
                     THEN h.segment_id END) AS to_segment_id
        FROM [dbo].[person_segment_history] AS h
        GROUP BY h.[person_id]
    ) AS c
    WHERE c.from_segment_id IS NOT NULL OR c.to_segment_id IS NOT NULL
    GROUP BY c.from_segment_id, c.to_segment_id
) AS m
WHERE a.segmentation = N'people' AND a.status = N'published' AND b.status = N'published';
GO
SELECT s.[person_id], o.o1 AS [sqlkmeans o1], o.o2 AS [sqlkmeans o2], o.o3 AS [sqlkmeans o3], o.o4 AS [sqlkmeans o4], o.o5 AS [sqlkmeans o5], o.o6 AS [sqlkmeans o6], o.o7 AS [sqlkmeans o7], o.o8 AS [sqlkmeans o8], z.z1 AS [sqlkmeans z1], z.z2 AS [sqlkmeans z2], z.z3 AS [sqlkmeans z3], z.z4 AS [sqlkmeans z4], z.z5 AS [sqlkmeans z5], z.z6 AS [sqlkmeans z6], z.z7 AS [sqlkmeans z7], z.z8 AS [sqlkmeans z8] INTO #sqlkmeans_prepared FROM [dbo].[person] AS s CROSS APPLY (SELECT CASE WHEN CAST(s.[income] AS float) < 0.5e0 THEN 0.5e0 WHEN CAST(s.[income] AS float) > 0.5e0 THEN 0.5e0 ELSE CAST(s.[income] AS float) END AS o1, CASE WHEN CAST(s.[home city] AS nvarchar(4000)) IS NULL THEN NULL WHEN (CAST(s.[home city] AS nvarchar(4000)) + N'.') COLLATE Latin1_General_100_BIN2 IN (N'Oslo.') THEN 1e0 ELSE 0e0 END AS o2, CASE WHEN CAST(s.[home city] AS nvarchar(4000)) IS NULL THEN NULL WHEN (CAST(s.[home city] AS nvarchar(4000)) + N'.') COLLATE Latin1_General_100_BIN2 IN (N'São Paulo.') THEN 1e0 ELSE 0e0 END AS o3, CASE WHEN CAST(s.[home city] AS nvarchar(4000)) IS NULL THEN NULL WHEN (CAST(s.[home city] AS nvarchar(4000)) + N'.') COLLATE Latin1_General_100_BIN2 IN (N'it''s.') THEN 1e0 ELSE 0e0 END AS o4, CASE WHEN CAST(s.[home city] AS nvarchar(4000)) IS NULL THEN NULL WHEN (CAST(s.[home city] AS nvarchar(4000)) + N'.') COLLATE Latin1_General_100_BIN2 IN (N'Oslo.', N'São Paulo.', N'it''s.') THEN 0e0 ELSE 1e0 END AS o5, CASE WHEN CAST(DATEDIFF(day, CAST(s.[joined] AS date), '20260101') AS float) < 0.5e0 THEN 0.5e0 WHEN CAST(DATEDIFF(day, CAST(s.[joined] AS date), '20260101') AS float) > 0.5e0 THEN 0.5e0 ELSE CAST(DATEDIFF(day, CAST(s.[joined] AS date), '20260101') AS float) END AS o6, CASE WHEN CAST(s.[plan_code] AS nvarchar(4000)) IS NULL THEN NULL WHEN (CAST(s.[plan_code] AS nvarchar(4000)) + N'.') COLLATE Latin1_General_100_BIN2 IN (N'1.') THEN 1e0 ELSE 0e0 END AS o7, CASE WHEN CAST(s.[plan_code] AS nvarchar(4000)) IS NULL THEN NULL WHEN (CAST(s.[plan_code] AS nvarchar(4000)) + N'.') COLLATE Latin1_General_100_BIN2 IN (N'1.') THEN 0e0 ELSE 1e0 END AS o8) AS o
CROSS APPLY (SELECT COALESCE(o.o1, 0.5e0) AS x1, COALESCE(o.o2, 0.5e0) AS x2, COALESCE(o.o3, 0.5e0) AS x3, COALESCE(o.o4, 0.5e0) AS x4, COALESCE(o.o5, 0.5e0) AS x5, COALESCE(o.o6, 0.5e0) AS x6, COALESCE(o.o7, 0.5e0) AS x7, COALESCE(o.o8, 0.5e0) AS x8) AS x
CROSS APPLY (SELECT CASE WHEN 1e0 + x.x1 = 1e0 THEN x.x1 WHEN x.x1 > -1e0 THEN LOG(1e0 + x.x1) * (x.x1 / ((1e0 + x.x1) - 1e0)) END AS t1, x.x2 AS t2, x.x3 AS t3, x.x4 AS t4, x.x5 AS t5, CASE WHEN 1e0 + x.x6 = 1e0 THEN x.x6 WHEN x.x6 > -1e0 THEN LOG(1e0 + x.x6) * (x.x6 / ((1e0 + x.x6) - 1e0)) END AS t6, x.x7 AS t7, x.x8 AS t8) AS t
CROSS APPLY (SELECT (t.t1 - (0.5e0)) / 0.5e0 AS z1, (t.t2 - (0.5e0)) / 0.5e0 AS z2, (t.t3 - (0.5e0)) / 0.5e0 AS z3, (t.t4 - (0.5e0)) / 0.5e0 AS z4, (t.t5 - (0.5e0)) / 0.5e0 AS z5, (t.t6 - (0.5e0)) / 0.5e0 AS z6, (t.t7 - (0.5e0)) / 0.5e0 AS z7, (t.t8 - (0.5e0)) / 0.5e0 AS z8) AS z;
SET @total = ROWCOUNT_BIG();
SELECT z.[person_id], n.segment_id AS [sqlkmeans cluster], SQRT(n.squared_distance) AS [sqlkmeans distance], z.[sqlkmeans o1], z.[sqlkmeans o2], z.[sqlkmeans o3], z.[sqlkmeans o4], z.[sqlkmeans o5], z.[sqlkmeans o6], z.[sqlkmeans o7], z.[sqlkmeans o8] INTO #sqlkmeans_scored FROM #sqlkmeans_prepared AS z
OUTER APPLY (SELECT TOP (1) c.segment_id, c.segment_name, d.squared_distance
FROM (VALUES
    (1, N'name 1', 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0),
    (2, N'name 2', 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0),
    (3, N'name 3', 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0),
    (4, N'name 4', 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0, 0.5e0)) AS c (segment_id, segment_name, c1, c2, c3, c4, c5, c6, c7, c8)
CROSS APPLY (SELECT (z.[sqlkmeans z1] - c.c1) * (z.[sqlkmeans z1] - c.c1) + (z.[sqlkmeans z2] - c.c2) * (z.[sqlkmeans z2] - c.c2) + (z.[sqlkmeans z3] - c.c3) * (z.[sqlkmeans z3] - c.c3) + (z.[sqlkmeans z4] - c.c4) * (z.[sqlkmeans z4] - c.c4) + (z.[sqlkmeans z5] - c.c5) * (z.[sqlkmeans z5] - c.c5) + (z.[sqlkmeans z6] - c.c6) * (z.[sqlkmeans z6] - c.c6) + (z.[sqlkmeans z7] - c.c7) * (z.[sqlkmeans z7] - c.c7) + (z.[sqlkmeans z8] - c.c8) * (z.[sqlkmeans z8] - c.c8) AS squared_distance) AS d
WHERE d.squared_distance IS NOT NULL
ORDER BY d.squared_distance, c.segment_id) AS n;
DROP TABLE #sqlkmeans_prepared;
EXECUTE sqlkmeans.check_keys @relation = N'#sqlkmeans_scored AS s', @key = @key;
INSERT INTO sqlkmeans.[staging_1] ([person_id], cluster, distance) SELECT s.[person_id], s.[sqlkmeans cluster], s.[sqlkmeans distance] FROM #sqlkmeans_scored AS s
WHERE s.[sqlkmeans cluster] IS NOT NULL;
SET @rows = ROWCOUNT_BIG();
INSERT INTO #sqlkmeans_size (segment_id, size, within_ss)
SELECT l.cluster, COUNT_BIG(*), SUM(l.distance * l.distance) FROM sqlkmeans.[staging_1] AS l GROUP BY l.cluster;
INSERT INTO #sqlkmeans_profile
    (segment_id, position, mean, lowest, highest, known, missing)
SELECT COALESCE(s.[sqlkmeans cluster], 0), v.position, AVG(v.value), MIN(v.value), MAX(v.value),
    COUNT_BIG(v.value), COUNT_BIG(*) - COUNT_BIG(v.value)
FROM #sqlkmeans_scored AS s
CROSS APPLY (VALUES (1, s.[sqlkmeans o1]), (2, s.[sqlkmeans o2]), (3, s.[sqlkmeans o3]), (4, s.[sqlkmeans o4]), (5, s.[sqlkmeans o5]), (6, s.[sqlkmeans o6]), (7, s.[sqlkmeans o7]), (8, s.[sqlkmeans o8])) AS v (position, value)
WHERE s.[sqlkmeans cluster] IS NOT NULL
GROUP BY GROUPING SETS ((s.[sqlkmeans cluster], v.position), (v.position));
UPDATE p
SET mean = p.mean + d.rest, deviation = CASE
    WHEN p.highest > p.lowest AND d.squares > d.rest * d.rest THEN SQRT(d.squares - d.rest * d.rest)
    WHEN p.known > 0 THEN 0e0 END
FROM #sqlkmeans_profile AS p
INNER JOIN (
    SELECT k.segment_id, k.position, AVG(v.value - k.mean) AS rest,
        AVG((v.value - k.mean) * (v.value - k.mean)) AS squares
    FROM #sqlkmeans_scored AS s
    CROSS APPLY (VALUES (1, s.[sqlkmeans o1]), (2, s.[sqlkmeans o2]), (3, s.[sqlkmeans o3]), (4, s.[sqlkmeans o4]), (5, s.[sqlkmeans o5]), (6, s.[sqlkmeans o6]), (7, s.[sqlkmeans o7]), (8, s.[sqlkmeans o8])) AS v (position, value)
    CROSS APPLY (VALUES (0), (s.[sqlkmeans cluster])) AS g (segment_id)
    INNER JOIN #sqlkmeans_profile AS k ON k.segment_id = g.segment_id AND k.position = v.position
    WHERE s.[sqlkmeans cluster] IS NOT NULL
    GROUP BY k.segment_id, k.position
) AS d ON d.segment_id = p.segment_id AND d.position = p.position;
UPDATE p
SET median = m.median
FROM #sqlkmeans_profile AS p
INNER JOIN (
    SELECT r.segment_id, r.position, AVG(r.value) AS median
    FROM (
        SELECT g.segment_id, v.position, v.value,
            ROW_NUMBER() OVER (PARTITION BY g.segment_id, v.position ORDER BY v.value) AS n
        FROM #sqlkmeans_scored AS s
        CROSS APPLY (VALUES (1, s.[sqlkmeans o1]), (2, s.[sqlkmeans o2]), (3, s.[sqlkmeans o3]), (4, s.[sqlkmeans o4]), (5, s.[sqlkmeans o5]), (6, s.[sqlkmeans o6]), (7, s.[sqlkmeans o7]), (8, s.[sqlkmeans o8])) AS v (position, value)
        CROSS APPLY (VALUES (0), (s.[sqlkmeans cluster])) AS g (segment_id)
        WHERE s.[sqlkmeans cluster] IS NOT NULL AND v.value IS NOT NULL
    ) AS r
    INNER JOIN #sqlkmeans_profile AS k ON k.segment_id = r.segment_id AND k.position = r.position
    WHERE r.n IN ((k.known + 1) / 2, (k.known + 2) / 2)
    GROUP BY r.segment_id, r.position
) AS m ON m.segment_id = p.segment_id AND m.position = p.position;
SELECT @mean_distance = AVG(l.distance) FROM sqlkmeans.[staging_1] AS l;
INSERT INTO #sqlkmeans_bin (position, bin, customers)
SELECT v.position, v.bin, COUNT_BIG(*)
FROM #sqlkmeans_scored AS s
CROSS APPLY (VALUES (1, CASE WHEN s.[sqlkmeans o1] IS NULL THEN 0 WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 1 WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 2 WHEN s.[sqlkmeans o1] <= 0.5e0 THEN 3 ELSE 4 END), (2, CASE WHEN s.[sqlkmeans o2] IS NULL THEN 0 WHEN s.[sqlkmeans o2] = 1e0 THEN 2 WHEN s.[sqlkmeans o3] = 1e0 THEN 1 WHEN s.[sqlkmeans o4] = 1e0 THEN 3 ELSE 4 END), (3, CASE WHEN s.[sqlkmeans o6] IS NULL THEN 0 WHEN s.[sqlkmeans o6] <= 0.5e0 THEN 1 WHEN s.[sqlkmeans o6] <= 0.5e0 THEN 2 WHEN s.[sqlkmeans o6] <= 0.5e0 THEN 3 ELSE 4 END), (4, CASE WHEN s.[sqlkmeans o7] IS NULL THEN 0 WHEN s.[sqlkmeans o7] = 1e0 THEN 1 ELSE 2 END)) AS v (position, bin)
WHERE s.[sqlkmeans cluster] IS NOT NULL
GROUP BY v.position, v.bin;
GO
SELECT @nulls = COALESCE(SUM(CAST(CASE WHEN s.[person_id] IS NULL THEN 1 ELSE 0 END AS bigint)), 0) FROM #sqlkmeans_scored AS s;
SELECT @repeats = COALESCE(SUM(g.customers - 1), 0)
FROM (SELECT COUNT_BIG(*) AS customers FROM #sqlkmeans_scored AS s WHERE s.[person_id] IS NOT NULL GROUP BY s.[person_id] HAVING COUNT_BIG(*) > 1) AS g;
GO
SELECT @arrived = COUNT_BIG(*) FROM (SELECT TOP (1) 1 AS one FROM [dbo].[person_segment] WITH (TABLOCK, HOLDLOCK)) AS t;SELECT @arrived = COUNT_BIG(*) FROM (SELECT TOP (1) 1 AS one FROM [dbo].[person_segment_history] WITH (TABLOCK, HOLDLOCK)) AS t;
GO
SET NOCOUNT ON;
CREATE TABLE #sqlkmeans_cluster_segment (cluster int NOT NULL PRIMARY KEY, segment_id int NOT NULL);
INSERT INTO #sqlkmeans_cluster_segment (cluster, segment_id)
SELECT CAST(j.[key] AS int), CAST(j.[value] AS int) FROM OPENJSON(@text) AS j;
-- What becomes of a customer: 0 another distance alone, 1 arrives, 2 moves, 3 departs.
SELECT s.[person_id], l.segment_id, s.distance,
    CASE WHEN t.segment_id IS NULL THEN 1 WHEN t.segment_id <> l.segment_id THEN 2 ELSE 0 END
        AS [sqlkmeans change], t.assigned_at AS [sqlkmeans since]
INTO #sqlkmeans_change
FROM sqlkmeans.[staging_1] AS s
INNER JOIN #sqlkmeans_cluster_segment AS l ON l.cluster = s.cluster
LEFT JOIN [dbo].[person_segment] AS t ON t.[person_id] = s.[person_id]
WHERE s.departed = 0
  AND (t.segment_id IS NULL
       OR t.segment_id <> l.segment_id
       OR ABS(t.distance - s.distance) > @tolerance);
INSERT INTO #sqlkmeans_change ([person_id], segment_id, distance, [sqlkmeans change], [sqlkmeans since])
SELECT t.[person_id], 0, 0, 3, t.assigned_at
FROM [dbo].[person_segment] AS t
WHERE NOT EXISTS (SELECT 1 FROM sqlkmeans.[staging_1] AS s WHERE t.[person_id] = s.[person_id] AND s.departed = 0);
SELECT @arrived = COALESCE(SUM(CASE WHEN n.change = 1 THEN n.customers ELSE 0 END), 0),
    @moved = COALESCE(SUM(CASE WHEN n.change = 2 THEN n.customers ELSE 0 END), 0),
    @departed = COALESCE(SUM(CASE WHEN n.change = 3 THEN n.customers ELSE 0 END), 0),
    @written = COALESCE(SUM(n.customers), 0)
FROM (SELECT c.[sqlkmeans change] AS change, COUNT_BIG(*) AS customers
      FROM #sqlkmeans_change AS c
      GROUP BY c.[sqlkmeans change]) AS n;
-- A statement without rows could read a table to its end to find that out.
-- A label and its row of the history begin at the same time, and the history is ordered by key and
-- time: so the row is found at once, however many a customer has.
DECLARE @closed bigint = 0;
IF @moved + @departed > 0
BEGIN
UPDATE t
SET valid_to = @now
FROM [dbo].[person_segment_history] AS t
INNER JOIN #sqlkmeans_change AS c ON t.[person_id] = c.[person_id] AND t.valid_from = c.[sqlkmeans since]
WHERE t.valid_to IS NULL AND c.[sqlkmeans change] IN (2, 3);
SET @closed = ROWCOUNT_BIG();
END;
-- Who arrives may have a row from before somebody deleted the label, and somebody may have changed
-- a time.
IF @arrived > 0 OR @closed < @moved + @departed
UPDATE t
SET valid_to = @now
FROM [dbo].[person_segment_history] AS t
INNER JOIN #sqlkmeans_change AS c ON t.[person_id] = c.[person_id]
WHERE t.valid_to IS NULL AND c.[sqlkmeans change] IN (1, 2, 3);
IF @arrived + @moved > 0
INSERT INTO [dbo].[person_segment_history] ([person_id], segment_id, distance, valid_from, valid_to, run_id)
SELECT c.[person_id], c.segment_id, c.distance, @now, NULL, @run_id
FROM #sqlkmeans_change AS c
WHERE c.[sqlkmeans change] IN (1, 2);
IF @written > 0
BEGIN
-- Under READ COMMITTED with locks, one statement could otherwise read some rows before and some
-- after the change. Where READ_COMMITTED_SNAPSHOT is on, nobody waits; where not, readers wait from
-- here on, so the history is written before.
DECLARE @any int;
SELECT TOP (1) @any = t.segment_id FROM [dbo].[person_segment] AS t WITH (TABLOCKX, HOLDLOCK);
IF @moved > 0
UPDATE t
SET segment_id = c.segment_id, distance = c.distance, run_id = @run_id, assigned_at = @now
FROM [dbo].[person_segment] AS t
INNER JOIN #sqlkmeans_change AS c ON t.[person_id] = c.[person_id]
WHERE c.[sqlkmeans change] = 2;
IF @written > @arrived + @moved + @departed
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
INSERT INTO [dbo].[person_segment] ([person_id], segment_id, distance, run_id, assigned_at)
SELECT c.[person_id], c.segment_id, c.distance, @run_id, @now
FROM #sqlkmeans_change AS c
WHERE c.[sqlkmeans change] = 1;
END;
DROP TABLE #sqlkmeans_change;
DROP TABLE #sqlkmeans_cluster_segment;
GO
ALTER TABLE #sqlkmeans_input ADD [person_id] bigint NULL; ALTER TABLE #sqlkmeans_input ADD [sqlkmeans f1] float NULL; ALTER TABLE #sqlkmeans_input ADD [sqlkmeans f2] nvarchar(101) COLLATE DATABASE_DEFAULT NULL; ALTER TABLE #sqlkmeans_input ADD [sqlkmeans f3] float NULL; ALTER TABLE #sqlkmeans_input ADD [sqlkmeans f4] nvarchar(101) COLLATE DATABASE_DEFAULT NULL; ALTER TABLE #sqlkmeans_input ADD [sqlkmeans sample weight] float NULL;
GO
INSERT INTO #sqlkmeans_input ([sqlkmeans row], [person_id], [sqlkmeans previous], [sqlkmeans f1], [sqlkmeans f2], [sqlkmeans f3], [sqlkmeans f4], [sqlkmeans sample weight]) SELECT ROW_NUMBER() OVER (ORDER BY s.[person_id]), s.[person_id], p.segment_id, CAST(s.[income] AS float), CAST(s.[home city] AS nvarchar(101)), CAST(DATEDIFF(day, '19700101', CAST(s.[joined] AS date)) AS float), CAST(s.[plan_code] AS nvarchar(101)), CAST(s.[orders] AS float) FROM [dbo].[person] AS s LEFT JOIN [dbo].[person_segment] AS p ON p.[person_id] = s.[person_id]; SET @total = ROWCOUNT_BIG();
GO
SELECT @nulls = COALESCE(SUM(CAST(CASE WHEN s.[person_id] IS NULL THEN 1 ELSE 0 END AS bigint)), 0) FROM #sqlkmeans_input AS s;
SELECT @repeats = COALESCE(SUM(g.customers - 1), 0)
FROM (SELECT COUNT_BIG(*) AS customers FROM #sqlkmeans_input AS s WHERE s.[person_id] IS NOT NULL GROUP BY s.[person_id] HAVING COUNT_BIG(*) > 1) AS g;
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
    @input_data_1 = N'SELECT [sqlkmeans row] AS row_number, [sqlkmeans previous] AS previous_segment_id, [sqlkmeans f1] AS f1, CONVERT(varchar(406), CAST([sqlkmeans f2] AS varbinary(202)), 1) AS f2, [sqlkmeans f3] AS f3, CONVERT(varchar(406), CAST([sqlkmeans f4] AS varbinary(202)), 1) AS f4, [sqlkmeans sample weight] AS sample_weight FROM #sqlkmeans_input',
    @params = N'@job nvarchar(max), @publication nvarchar(max) OUTPUT',
    @job = @text,
    @publication = @publication OUTPUT;
INSERT INTO #sqlkmeans_publication (content) VALUES (@publication);
GO
