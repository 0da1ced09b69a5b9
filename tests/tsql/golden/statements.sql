DROP VIEW IF EXISTS sqlkmeans.[source_of_session_1];
GO
CREATE VIEW sqlkmeans.[source_of_session_1] AS SELECT * FROM (
SELECT customer_id, income, age FROM dbo.customer
) AS s
GO
INSERT INTO #source_column (position, name, type, max_length, [precision], scale, collation)
        SELECT c.column_id, c.name, t.name, c.max_length, c.[precision], c.scale, c.collation_name
        FROM sys.columns AS c
        INNER JOIN sys.types AS t ON t.user_type_id = c.system_type_id
        WHERE c.object_id = OBJECT_ID(@text);
GO
DROP VIEW sqlkmeans.[source_of_session_1];
GO
INSERT INTO #target_column (name, type)
        SELECT c.name,
            sqlkmeans.type_text(t.name, c.max_length, c.[precision], c.scale, c.collation_name)
        FROM sys.columns AS c
        INNER JOIN sys.types AS t ON t.user_type_id = c.system_type_id
        WHERE c.object_id = OBJECT_ID(@text);
GO
CREATE TABLE sqlkmeans.[staging_1] ([customer_id] bigint NOT NULL, cluster int NOT NULL, distance float NOT NULL, PRIMARY KEY CLUSTERED ([customer_id]));
GO
GRANT SELECT, INSERT ON sqlkmeans.[staging_1] TO sqlkmeans_operator;
GO
SELECT @arrived = COUNT_BIG(*) FROM sqlkmeans.[staging_1];
GO
INSERT INTO #table_column (name, type)
        SELECT c.name,
            sqlkmeans.type_text(t.name, c.max_length, c.[precision], c.scale, c.collation_name)
        FROM sys.columns AS c
        INNER JOIN sys.types AS t ON t.user_type_id = c.system_type_id
        WHERE c.object_id = OBJECT_ID(@text);
GO
SET @arrived = OBJECT_ID(@text);
GO
CREATE TABLE [dbo].[customer_segment_history] ([customer_id] bigint NOT NULL, segment_id int NOT NULL, distance float NOT NULL, valid_from datetime2(6) NOT NULL, valid_to datetime2(6) NULL, run_id bigint NOT NULL, PRIMARY KEY CLUSTERED ([customer_id], valid_from));
GO
GRANT SELECT ON [dbo].[customer_segment_history] TO sqlkmeans_reader;
GO
UPDATE [dbo].[customer_segment_history] SET valid_to = @now WHERE valid_to IS NULL;
GO
CREATE TABLE [dbo].[customer_segment] ([customer_id] bigint NOT NULL, segment_id int NOT NULL, distance float NOT NULL, run_id bigint NOT NULL, assigned_at datetime2(6) NOT NULL, PRIMARY KEY CLUSTERED ([customer_id]));
GO
GRANT SELECT ON [dbo].[customer_segment] TO sqlkmeans_reader;
GO
CREATE VIEW [dbo].[customer_segment_named] AS SELECT t.[customer_id], t.segment_id, t.distance, t.run_id, t.assigned_at, s.name AS segment_name FROM [dbo].[customer_segment] AS t INNER JOIN sqlkmeans.segmentation AS g ON g.name = N'customers' LEFT JOIN sqlkmeans.segment AS s ON s.run_id = g.active_run_id AND s.segment_id = t.segment_id;
GO
GRANT SELECT ON [dbo].[customer_segment_named] TO sqlkmeans_reader;
GO
SELECT @arrived = COUNT_BIG(*) FROM (SELECT DISTINCT l.cluster FROM sqlkmeans.[staging_1] AS l) AS s WHERE NOT EXISTS (SELECT 1 FROM OPENJSON(@text) AS j WHERE CAST(j.[key] AS int) = s.cluster);
GO
SELECT @arrived = COUNT_BIG(*) FROM (SELECT TOP (1) 1 AS one FROM [dbo].[customer_segment]) AS t;
GO
SET NOCOUNT ON;
CREATE TABLE #label (cluster int NOT NULL PRIMARY KEY, segment_id int NOT NULL);
INSERT INTO #label (cluster, segment_id)
SELECT CAST(j.[key] AS int), CAST(j.[value] AS int) FROM OPENJSON(@text) AS j;
INSERT INTO [dbo].[customer_segment] WITH (TABLOCK) ([customer_id], segment_id, distance, run_id, assigned_at)
SELECT s.[customer_id], l.segment_id, s.distance, @run_id, @now
FROM sqlkmeans.[staging_1] AS s
INNER JOIN #label AS l ON l.cluster = s.cluster
ORDER BY s.[customer_id];
SET @arrived = ROWCOUNT_BIG();
INSERT INTO [dbo].[customer_segment_history] WITH (TABLOCK) ([customer_id], segment_id, distance, valid_from, valid_to, run_id)
SELECT t.[customer_id], t.segment_id, t.distance, @now, NULL, @run_id
FROM [dbo].[customer_segment] AS t
ORDER BY t.[customer_id];
SET @moved = 0;
SET @departed = 0;
SET @written = @arrived;
DROP TABLE #label;
GO
DROP TABLE sqlkmeans.[staging_1];
GO
CREATE FUNCTION sqlkmeans.[assign_customers] (@income float, @age float)
RETURNS TABLE
AS
RETURN (
SELECT b.segment_id, CASE b.segment_id WHEN 1 THEN N'younger, low income' WHEN 2 THEN N'older' WHEN 3 THEN N'very high income, much older' END AS segment_name,
    SQRT(n.squared_distance) AS distance,
    SQRT((SELECT MIN(v.value) FROM (VALUES (CASE WHEN b.segment_id <> 1 THEN d.d1 END), (CASE WHEN b.segment_id <> 2 THEN d.d2 END), (CASE WHEN b.segment_id <> 3 THEN d.d3 END)) AS v (value))) AS runner_up_distance
FROM (SELECT COALESCE(@income, 0.5e0) AS x1, COALESCE(@age, 0.5e0) AS x2) AS x
CROSS APPLY (SELECT x.x1 AS t1, CASE WHEN 1e0 + x.x2 = 1e0 THEN x.x2 WHEN x.x2 > -1e0 THEN LOG(1e0 + x.x2) * (x.x2 / ((1e0 + x.x2) - 1e0)) END AS t2) AS t
CROSS APPLY (SELECT (t.t1 - (0.5e0)) / 0.5e0 AS z1, (t.t2 - (0.5e0)) / 0.5e0 AS z2) AS z
CROSS APPLY (SELECT
    (z.z1 - (0.5e0)) * (z.z1 - (0.5e0)) + (z.z2 - (0.5e0)) * (z.z2 - (0.5e0)) AS d1,
    (z.z1 - (0.5e0)) * (z.z1 - (0.5e0)) + (z.z2 - (0.5e0)) * (z.z2 - (0.5e0)) AS d2,
    (z.z1 - (0.5e0)) * (z.z1 - (0.5e0)) + (z.z2 - (0.5e0)) * (z.z2 - (0.5e0)) AS d3) AS d
CROSS APPLY (SELECT (SELECT MIN(v.value) FROM (VALUES (d.d1), (d.d2), (d.d3)) AS v (value)) AS squared_distance) AS n
CROSS APPLY (SELECT CASE n.squared_distance WHEN d.d1 THEN 1 WHEN d.d2 THEN 2 WHEN d.d3 THEN 3 END AS segment_id) AS b
);
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
INSERT INTO sqlkmeans.[staging_1] ([customer_id], cluster, distance) SELECT s.[customer_id], f.segment_id, f.distance FROM [dbo].[customer] AS s CROSS APPLY (SELECT b.segment_id, CASE b.segment_id WHEN 1 THEN N'younger, low income' WHEN 2 THEN N'older' WHEN 3 THEN N'very high income, much older' END AS segment_name,
    SQRT(n.squared_distance) AS distance,
    SQRT((SELECT MIN(v.value) FROM (VALUES (CASE WHEN b.segment_id <> 1 THEN d.d1 END), (CASE WHEN b.segment_id <> 2 THEN d.d2 END), (CASE WHEN b.segment_id <> 3 THEN d.d3 END)) AS v (value))) AS runner_up_distance
FROM (SELECT COALESCE(CAST(s.[income] AS float), 0.5e0) AS x1, COALESCE(CAST(s.[age] AS float), 0.5e0) AS x2) AS x
CROSS APPLY (SELECT x.x1 AS t1, CASE WHEN 1e0 + x.x2 = 1e0 THEN x.x2 WHEN x.x2 > -1e0 THEN LOG(1e0 + x.x2) * (x.x2 / ((1e0 + x.x2) - 1e0)) END AS t2) AS t
CROSS APPLY (SELECT (t.t1 - (0.5e0)) / 0.5e0 AS z1, (t.t2 - (0.5e0)) / 0.5e0 AS z2) AS z
CROSS APPLY (SELECT
    (z.z1 - (0.5e0)) * (z.z1 - (0.5e0)) + (z.z2 - (0.5e0)) * (z.z2 - (0.5e0)) AS d1,
    (z.z1 - (0.5e0)) * (z.z1 - (0.5e0)) + (z.z2 - (0.5e0)) * (z.z2 - (0.5e0)) AS d2,
    (z.z1 - (0.5e0)) * (z.z1 - (0.5e0)) + (z.z2 - (0.5e0)) * (z.z2 - (0.5e0)) AS d3) AS d
CROSS APPLY (SELECT (SELECT MIN(v.value) FROM (VALUES (d.d1), (d.d2), (d.d3)) AS v (value)) AS squared_distance) AS n
CROSS APPLY (SELECT CASE n.squared_distance WHEN d.d1 THEN 1 WHEN d.d2 THEN 2 WHEN d.d3 THEN 3 END AS segment_id) AS b) AS f WHERE f.segment_id IS NOT NULL; SET @rows = ROWCOUNT_BIG(); SELECT @total = COUNT_BIG(*) FROM [dbo].[customer] AS s; INSERT INTO #size (segment_id, size, within_ss) SELECT l.cluster, COUNT_BIG(*), SUM(l.distance * l.distance) FROM sqlkmeans.[staging_1] AS l GROUP BY l.cluster;
GO
INSERT INTO #profile (segment_id, position, mean, deviation, lowest, highest, missing) SELECT COALESCE(l.cluster, 0), v.position, AVG(v.value), STDEVP(v.value), MIN(v.value), MAX(v.value), COUNT_BIG(*) - COUNT_BIG(v.value) FROM [dbo].[customer] AS s INNER JOIN sqlkmeans.[staging_1] AS l ON l.[customer_id] = s.[customer_id] CROSS APPLY (VALUES (1, CAST(s.[income] AS float)), (2, CAST(s.[age] AS float))) AS v (position, value) GROUP BY GROUPING SETS ((l.cluster, v.position), (v.position));
GO
SET NOCOUNT ON;
CREATE TABLE #label (cluster int NOT NULL PRIMARY KEY, segment_id int NOT NULL);
INSERT INTO #label (cluster, segment_id)
SELECT CAST(j.[key] AS int), CAST(j.[value] AS int) FROM OPENJSON(@text) AS j;
SELECT s.[customer_id], l.segment_id, s.distance, t.segment_id AS [sqlkmeans previous]
INTO #change
FROM sqlkmeans.[staging_1] AS s
INNER JOIN #label AS l ON l.cluster = s.cluster
LEFT JOIN [dbo].[customer_segment] AS t ON t.[customer_id] = s.[customer_id]
WHERE t.segment_id IS NULL
   OR t.segment_id <> l.segment_id
   OR ABS(t.distance - s.distance) > @tolerance;
SELECT t.[customer_id]
INTO #departed
FROM [dbo].[customer_segment] AS t
WHERE NOT EXISTS (SELECT 1 FROM sqlkmeans.[staging_1] AS s WHERE t.[customer_id] = s.[customer_id]);
DECLARE @any int;
DECLARE @changes bigint =
    (SELECT COUNT_BIG(*) FROM #change) + (SELECT COUNT_BIG(*) FROM #departed);
-- Under READ COMMITTED with locks, one statement could otherwise read some rows before and some
-- after the change. Where READ_COMMITTED_SNAPSHOT is on, nobody waits.
IF @changes > 0
    SELECT TOP (1) @any = t.segment_id FROM [dbo].[customer_segment] AS t WITH (TABLOCKX, HOLDLOCK);
UPDATE t
SET valid_to = @now
FROM [dbo].[customer_segment_history] AS t
INNER JOIN #change AS c ON t.[customer_id] = c.[customer_id]
WHERE t.valid_to IS NULL AND c.[sqlkmeans previous] <> c.segment_id;
UPDATE t
SET valid_to = @now
FROM [dbo].[customer_segment_history] AS t
INNER JOIN #departed AS c ON t.[customer_id] = c.[customer_id]
WHERE t.valid_to IS NULL;
UPDATE t
SET segment_id = c.segment_id, distance = c.distance, run_id = @run_id, assigned_at = @now
FROM [dbo].[customer_segment] AS t
INNER JOIN #change AS c ON t.[customer_id] = c.[customer_id]
WHERE c.[sqlkmeans previous] <> c.segment_id;
SET @moved = ROWCOUNT_BIG();
UPDATE t
SET distance = c.distance
FROM [dbo].[customer_segment] AS t
INNER JOIN #change AS c ON t.[customer_id] = c.[customer_id]
WHERE c.[sqlkmeans previous] = c.segment_id;
SET @written = ROWCOUNT_BIG();
DELETE t
FROM [dbo].[customer_segment] AS t
INNER JOIN #departed AS c ON t.[customer_id] = c.[customer_id];
SET @departed = ROWCOUNT_BIG();
INSERT INTO [dbo].[customer_segment] ([customer_id], segment_id, distance, run_id, assigned_at)
SELECT c.[customer_id], c.segment_id, c.distance, @run_id, @now
FROM #change AS c
WHERE c.[sqlkmeans previous] IS NULL;
SET @arrived = ROWCOUNT_BIG();
INSERT INTO [dbo].[customer_segment_history] ([customer_id], segment_id, distance, valid_from, valid_to, run_id)
SELECT c.[customer_id], c.segment_id, c.distance, @now, NULL, @run_id
FROM #change AS c
WHERE c.[sqlkmeans previous] IS NULL OR c.[sqlkmeans previous] <> c.segment_id;
SET @written = @written + @moved + @departed + @arrived;
DROP TABLE #change;
DROP TABLE #departed;
DROP TABLE #label;
GO
ALTER TABLE #input ADD [customer_id] bigint NOT NULL; ALTER TABLE #input ADD f1 float NULL; ALTER TABLE #input ADD f2 float NULL;
GO
INSERT INTO #input (row_number, [customer_id], previous_segment_id, f1, f2) SELECT ROW_NUMBER() OVER (ORDER BY s.[customer_id]), s.[customer_id], p.segment_id, CAST(s.[income] AS float), CAST(s.[age] AS float) FROM [dbo].[customer] AS s LEFT JOIN [dbo].[customer_segment] AS p ON p.[customer_id] = s.[customer_id]; SET @total = ROWCOUNT_BIG();
GO
DECLARE @publication nvarchar(max);
INSERT INTO #label (row_number, cluster, distance)
EXECUTE sys.sp_execute_external_script
    @language = N'Python',
    @script = N'
from sqlkmeans.external_script import run_segmentation
OutputDataSet, publication = run_segmentation(InputDataSet, job)
',
    @input_data_1 = N'SELECT row_number, previous_segment_id, f1, f2 FROM #input',
    @params = N'@job nvarchar(max), @publication nvarchar(max) OUTPUT',
    @job = @text,
    @publication = @publication OUTPUT;
INSERT INTO #publication (content) VALUES (@publication);
GO
DROP TABLE IF EXISTS sqlkmeans.[staging_1];
GO
INSERT INTO sqlkmeans.[staging_1] ([customer_id], cluster, distance) SELECT [customer_id], segment_id, distance FROM [dbo].[customer_segment_history] WHERE valid_from <= @then AND (valid_to IS NULL OR valid_to > @then); SET @arrived = ROWCOUNT_BIG();
GO
ALTER FUNCTION sqlkmeans.[assign_customers] (@income float, @age float)
RETURNS TABLE
AS
RETURN (
SELECT b.segment_id, CASE b.segment_id WHEN 1 THEN N'younger, low income' WHEN 2 THEN N'older' WHEN 3 THEN N'very high income, much older' END AS segment_name,
    SQRT(n.squared_distance) AS distance,
    SQRT((SELECT MIN(v.value) FROM (VALUES (CASE WHEN b.segment_id <> 1 THEN d.d1 END), (CASE WHEN b.segment_id <> 2 THEN d.d2 END), (CASE WHEN b.segment_id <> 3 THEN d.d3 END)) AS v (value))) AS runner_up_distance
FROM (SELECT COALESCE(@income, 0.5e0) AS x1, COALESCE(@age, 0.5e0) AS x2) AS x
CROSS APPLY (SELECT x.x1 AS t1, CASE WHEN 1e0 + x.x2 = 1e0 THEN x.x2 WHEN x.x2 > -1e0 THEN LOG(1e0 + x.x2) * (x.x2 / ((1e0 + x.x2) - 1e0)) END AS t2) AS t
CROSS APPLY (SELECT (t.t1 - (0.5e0)) / 0.5e0 AS z1, (t.t2 - (0.5e0)) / 0.5e0 AS z2) AS z
CROSS APPLY (SELECT
    (z.z1 - (0.5e0)) * (z.z1 - (0.5e0)) + (z.z2 - (0.5e0)) * (z.z2 - (0.5e0)) AS d1,
    (z.z1 - (0.5e0)) * (z.z1 - (0.5e0)) + (z.z2 - (0.5e0)) * (z.z2 - (0.5e0)) AS d2,
    (z.z1 - (0.5e0)) * (z.z1 - (0.5e0)) + (z.z2 - (0.5e0)) * (z.z2 - (0.5e0)) AS d3) AS d
CROSS APPLY (SELECT (SELECT MIN(v.value) FROM (VALUES (d.d1), (d.d2), (d.d3)) AS v (value)) AS squared_distance) AS n
CROSS APPLY (SELECT CASE n.squared_distance WHEN d.d1 THEN 1 WHEN d.d2 THEN 2 WHEN d.d3 THEN 3 END AS segment_id) AS b
);
GO
ALTER FUNCTION sqlkmeans.[assign_customers] (@income float, @age float)
RETURNS TABLE
AS
RETURN (
SELECT b.segment_id, CASE b.segment_id WHEN 1 THEN N'it''s' WHEN 2 THEN N'older' WHEN 3 THEN N'very high income, much older' END AS segment_name,
    SQRT(n.squared_distance) AS distance,
    SQRT((SELECT MIN(v.value) FROM (VALUES (CASE WHEN b.segment_id <> 1 THEN d.d1 END), (CASE WHEN b.segment_id <> 2 THEN d.d2 END), (CASE WHEN b.segment_id <> 3 THEN d.d3 END)) AS v (value))) AS runner_up_distance
FROM (SELECT COALESCE(@income, 0.5e0) AS x1, COALESCE(@age, 0.5e0) AS x2) AS x
CROSS APPLY (SELECT x.x1 AS t1, CASE WHEN 1e0 + x.x2 = 1e0 THEN x.x2 WHEN x.x2 > -1e0 THEN LOG(1e0 + x.x2) * (x.x2 / ((1e0 + x.x2) - 1e0)) END AS t2) AS t
CROSS APPLY (SELECT (t.t1 - (0.5e0)) / 0.5e0 AS z1, (t.t2 - (0.5e0)) / 0.5e0 AS z2) AS z
CROSS APPLY (SELECT
    (z.z1 - (0.5e0)) * (z.z1 - (0.5e0)) + (z.z2 - (0.5e0)) * (z.z2 - (0.5e0)) AS d1,
    (z.z1 - (0.5e0)) * (z.z1 - (0.5e0)) + (z.z2 - (0.5e0)) * (z.z2 - (0.5e0)) AS d2,
    (z.z1 - (0.5e0)) * (z.z1 - (0.5e0)) + (z.z2 - (0.5e0)) * (z.z2 - (0.5e0)) AS d3) AS d
CROSS APPLY (SELECT (SELECT MIN(v.value) FROM (VALUES (d.d1), (d.d2), (d.d3)) AS v (value)) AS squared_distance) AS n
CROSS APPLY (SELECT CASE n.squared_distance WHEN d.d1 THEN 1 WHEN d.d2 THEN 2 WHEN d.d3 THEN 3 END AS segment_id) AS b
);
GO
SELECT @arrived = COUNT_BIG(*) FROM [dbo].[customer_segment_history] WHERE valid_to < @then;
GO
DELETE FROM [dbo].[customer_segment_history] WHERE valid_to < @then; SET @arrived = ROWCOUNT_BIG();
GO
