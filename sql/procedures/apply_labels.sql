IF OBJECT_ID(N'sqlkmeans.apply_labels', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.apply_labels AS RETURN 0;');
GO
-- Turns a run's staged labels into changes of the segment table and its history. Runs in the
-- caller's transaction, under the segmentation's lock. Where only changes were staged, customers
-- departed who are staged as departed; else those departed who are not staged. Who is an outlier, the
-- staged row says, or the limits of @publication do.
ALTER PROCEDURE sqlkmeans.apply_labels
    @segmentation nvarchar(128),
    @target       nvarchar(1000),
    @key          nvarchar(max),
    @run_id       bigint,
    @segment_ids  nvarchar(max),
    @now          datetime2(6),
    @tolerance    float,
    @changes_only bit = 0,
    @publication  nvarchar(max) = NULL,
    @arrived      bigint OUTPUT,
    @moved        bigint OUTPUT,
    @departed     bigint OUTPUT,
    @written      bigint OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @table nvarchar(1000) = sqlkmeans.quoted_name(@target, N'');
    DECLARE @history nvarchar(1000) = sqlkmeans.quoted_name(@target, N'_history');
    DECLARE @staging nvarchar(200) =
        N'sqlkmeans.' + QUOTENAME(N'staging_' + CAST(@run_id AS nvarchar(20)));
    DECLARE @keys nvarchar(max) = sqlkmeans.each_name(@key, N'{}', N', ');
    DECLARE @staged_keys nvarchar(max) = sqlkmeans.each_name(@key, N's.{}', N', ');
    DECLARE @published_keys nvarchar(max) = sqlkmeans.each_name(@key, N't.{}', N', ');
    DECLARE @same nvarchar(max) = sqlkmeans.each_name(@key, N't.{} = s.{}', N' AND ');
    DECLARE @changed nvarchar(max) = sqlkmeans.each_name(@key, N't.{} = c.{}', N' AND ');
    DECLARE @change_keys nvarchar(max) = sqlkmeans.each_name(@key, N'c.{}', N', ');
    DECLARE @statement nvarchar(max);
    DECLARE @found bigint;
    DECLARE @nameless bigint;

    EXECUTE sqlkmeans.create_segment_table
        @segmentation = @segmentation, @target = @target, @key = @key, @staging = @staging,
        @now = @now;

    -- A cluster without a segment would drop its customers from the result in silence. The table is
    -- asked for a row in the same breath: each text with a run's number in it is compiled anew.
    SET @statement = N'SELECT @moved = COUNT_BIG(*) FROM (SELECT DISTINCT l.cluster FROM '
        + @staging + N' AS l WHERE l.departed = 0) AS s WHERE NOT EXISTS '
        + N'(SELECT 1 FROM OPENJSON(@text) AS j WHERE CAST(j.[key] AS int) = s.cluster);
SELECT @arrived = COUNT_BIG(*) FROM (SELECT TOP (1) 1 AS one FROM ' + @table
        + N') AS t;';
    EXECUTE sqlkmeans.as_owner
        @statement = @statement, @text = @segment_ids, @arrived = @found OUTPUT,
        @moved = @nameless OUTPUT;
    IF @nameless > 0
        EXECUTE sqlkmeans.raise_problems @number = 50002,
            @problems = N'segment_ids: some staged clusters have no segment id';

    CREATE TABLE #sqlkmeans_outlier
    (
        segment_id       int   NOT NULL PRIMARY KEY,
        outlier_distance float NOT NULL
    );
    INSERT INTO #sqlkmeans_outlier (segment_id, outlier_distance)
    SELECT o.segment_id, o.outlier_distance FROM sqlkmeans.outlier_distances(@publication) AS o;

    DECLARE @labels nvarchar(max) = N'
SET NOCOUNT ON;
CREATE TABLE #sqlkmeans_cluster_segment
    (cluster int NOT NULL PRIMARY KEY, segment_id int NOT NULL, outlier_distance float NULL);
INSERT INTO #sqlkmeans_cluster_segment (cluster, segment_id, outlier_distance)
SELECT CAST(j.[key] AS int), CAST(j.[value] AS int), o.outlier_distance
FROM OPENJSON(@text) AS j
LEFT JOIN #sqlkmeans_outlier AS o ON o.segment_id = CAST(j.[value] AS int);
';
    DECLARE @staged nvarchar(max) = N'
FROM ' + @staging + N' AS s
INNER JOIN #sqlkmeans_cluster_segment AS l ON l.cluster = s.cluster
CROSS APPLY (SELECT COALESCE(s.is_outlier,
    CASE WHEN s.distance > l.outlier_distance THEN 1 ELSE 0 END) AS is_outlier) AS f
';

    IF @found = 0
        -- An empty table, loaded in key order under a table lock, is minimally logged where the
        -- recovery model allows it.
        SET @statement = @labels + N'
UPDATE ' + @history + N' SET valid_to = @now WHERE valid_to IS NULL;
INSERT INTO ' + @table + N' WITH (TABLOCK) (' + @keys + N', segment_id, distance, is_outlier, run_id, assigned_at)
SELECT ' + @staged_keys + N', l.segment_id, s.distance, f.is_outlier, @run_id, @now' + @staged + N'WHERE s.departed = 0
ORDER BY ' + @staged_keys + N';
SET @arrived = ROWCOUNT_BIG();
INSERT INTO ' + @history + N' WITH (TABLOCK) (' + @keys
            + N', segment_id, distance, is_outlier, valid_from, valid_to, run_id)
SELECT ' + @published_keys + N', t.segment_id, t.distance, t.is_outlier, @now, NULL, @run_id
FROM ' + @table + N' AS t
ORDER BY ' + @published_keys + N';
SET @moved = 0;
SET @departed = 0;
SET @written = @arrived;
';
    ELSE
        SET @statement = @labels + N'
-- What becomes of a customer: 0 another distance alone, 1 arrives, 2 moves, 3 departs, 4 becomes an
-- outlier or ceases to be one. A distance that would lie on the wrong side of its limit is written
-- too, though it hardly changed: later it tells who is one.
SELECT ' + @staged_keys + N', l.segment_id, s.distance, CAST(f.is_outlier AS bit) AS is_outlier,
    CASE WHEN t.segment_id IS NULL THEN 1 WHEN t.segment_id <> l.segment_id THEN 2
         WHEN t.is_outlier <> f.is_outlier THEN 4 ELSE 0 END
        AS [sqlkmeans change], t.assigned_at AS [sqlkmeans since]
INTO #sqlkmeans_change' + @staged + N'LEFT JOIN ' + @table + N' AS t ON ' + @same + N'
WHERE s.departed = 0
  AND (t.segment_id IS NULL
       OR t.segment_id <> l.segment_id
       OR t.is_outlier <> f.is_outlier
       OR ABS(t.distance - s.distance) > @tolerance
       OR (s.is_outlier IS NULL
           AND f.is_outlier <> CASE WHEN t.distance > l.outlier_distance THEN 1 ELSE 0 END));

INSERT INTO #sqlkmeans_change (' + @keys + N', segment_id, distance, is_outlier, [sqlkmeans change], [sqlkmeans since])
SELECT ' + @published_keys + N', 0, 0, 0, 3, t.assigned_at
FROM ' + @table + N' AS t
WHERE ' + CASE WHEN @changes_only = 1
            THEN N'EXISTS (SELECT 1 FROM ' + @staging + N' AS s WHERE ' + @same
                + N' AND s.departed = 1)
  AND ' ELSE N'' END + N'NOT EXISTS (SELECT 1 FROM ' + @staging + N' AS s WHERE ' + @same
            + N' AND s.departed = 0);

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
FROM ' + @history + N' AS t
INNER JOIN #sqlkmeans_change AS c ON ' + @changed + N' AND t.valid_from = c.[sqlkmeans since]
WHERE t.valid_to IS NULL AND c.[sqlkmeans change] IN (2, 3, 4);
SET @closed = ROWCOUNT_BIG();
END;

-- Who arrives may have a row from before somebody deleted the label, and somebody may have changed
-- a time.
IF @arrived > 0 OR @closed < @ended
UPDATE t
SET valid_to = @now
FROM ' + @history + N' AS t
INNER JOIN #sqlkmeans_change AS c ON ' + @changed + N'
WHERE t.valid_to IS NULL AND c.[sqlkmeans change] IN (1, 2, 3, 4);

IF @arrived + @ended > @departed
INSERT INTO ' + @history + N' (' + @keys + N', segment_id, distance, is_outlier, valid_from, valid_to, run_id)
SELECT ' + @change_keys + N', c.segment_id, c.distance, c.is_outlier, @now, NULL, @run_id
FROM #sqlkmeans_change AS c
WHERE c.[sqlkmeans change] IN (1, 2, 4);

IF @written > 0
BEGIN
-- Under READ COMMITTED with locks, one statement could otherwise read some rows before and some
-- after the change. Where READ_COMMITTED_SNAPSHOT is on, nobody waits; where not, readers wait from
-- here on, so the history is written before.
DECLARE @any int;
SELECT TOP (1) @any = t.segment_id FROM ' + @table + N' AS t WITH (TABLOCKX, HOLDLOCK);

IF @ended > @departed
UPDATE t
SET segment_id = c.segment_id, distance = c.distance, is_outlier = c.is_outlier, run_id = @run_id,
    assigned_at = @now
FROM ' + @table + N' AS t
INNER JOIN #sqlkmeans_change AS c ON ' + @changed + N'
WHERE c.[sqlkmeans change] IN (2, 4);

IF @written > @arrived + @ended
UPDATE t
SET distance = c.distance
FROM ' + @table + N' AS t
INNER JOIN #sqlkmeans_change AS c ON ' + @changed + N'
WHERE c.[sqlkmeans change] = 0;

IF @departed > 0
DELETE t
FROM ' + @table + N' AS t
INNER JOIN #sqlkmeans_change AS c ON ' + @changed + N'
WHERE c.[sqlkmeans change] = 3;

IF @arrived > 0
INSERT INTO ' + @table + N' (' + @keys + N', segment_id, distance, is_outlier, run_id, assigned_at)
SELECT ' + @change_keys + N', c.segment_id, c.distance, c.is_outlier, @run_id, @now
FROM #sqlkmeans_change AS c
WHERE c.[sqlkmeans change] = 1;
END;
DROP TABLE #sqlkmeans_change;
';

    SET @statement = @statement + N'DROP TABLE #sqlkmeans_cluster_segment;';
    EXECUTE sqlkmeans.as_owner
        @statement = @statement, @run_id = @run_id, @text = @segment_ids, @now = @now,
        @tolerance = @tolerance, @arrived = @arrived OUTPUT, @moved = @moved OUTPUT,
        @departed = @departed OUTPUT, @written = @written OUTPUT;
END;
GO
