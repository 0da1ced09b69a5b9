IF OBJECT_ID(N'sqlkmeans.self_test_jobs', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.self_test_jobs AS RETURN 0;');
GO
-- Adds to the caller's #sqlkmeans_check: the nights after the first run, from changed customers to a
-- cancelled call. Each goes on from where the one before it ended.
ALTER PROCEDURE sqlkmeans.self_test_jobs
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    INSERT INTO #sqlkmeans_check (name, expected, statement)
    VALUES
    (N'the view with names', NULL, N'
SELECT @wrong = COUNT_BIG(*)
FROM sqlkmeans.segment_summary AS s
FULL JOIN (SELECT v.segment_id, v.segment_name, COUNT_BIG(*) AS size
           FROM sqlkmeans_self_test.segment_tsql_named AS v
           GROUP BY v.segment_id, v.segment_name) AS n
    ON n.segment_id = s.segment_id AND n.segment_name = s.segment_name AND n.size = s.size
WHERE s.segmentation = N''sqlkmeans_self_test_tsql'' AND (n.segment_id IS NULL OR s.segment_id IS NULL);'),
    (N'assign after changes', NULL, N'
INSERT INTO sqlkmeans_self_test.customer (customer_id, income, orders, city)
VALUES (9007199254750000, 160500, 121, ''Stavanger'');
UPDATE sqlkmeans_self_test.customer SET income = 90100, orders = 31, city = ''Bergen''
WHERE customer_id = 9007199254740994;
DELETE FROM sqlkmeans_self_test.customer WHERE customer_id = 9007199254740995;
EXECUTE sqlkmeans.assign_segments @segmentation = N''sqlkmeans_self_test_tsql'', @quiet = 1;
SELECT @wrong = 1 - COUNT_BIG(*) FROM sqlkmeans.run AS r
WHERE r.segmentation = N''sqlkmeans_self_test_tsql'' AND r.kind = N''assign'' AND r.status = N''published''
  AND r.arrived = 1 AND r.moved = 1 AND r.departed = 1;'),
    (N'history as of the first run', NULL, N'
DECLARE @then datetime2(6);
SELECT @then = MIN(r.published_at) FROM sqlkmeans.run AS r
WHERE r.segmentation = N''sqlkmeans_self_test_tsql'';
SELECT @wrong = COUNT_BIG(*)
FROM sqlkmeans.self_test_customers() AS c
FULL JOIN (SELECT h.customer_id, h.segment_id
           FROM sqlkmeans_self_test.segment_tsql_history AS h
           WHERE h.valid_from <= @then AND (h.valid_to IS NULL OR h.valid_to > @then)) AS s
    ON s.customer_id = c.customer_id
WHERE c.segment_id IS NULL OR s.segment_id IS NULL OR s.segment_id <> c.segment_id;'),
    (N'who moved', NULL, N'
SELECT @wrong = 3 - COALESCE(SUM(m.customers), 0)
FROM sqlkmeans.segment_movement AS m
WHERE m.segmentation = N''sqlkmeans_self_test_tsql''
  AND m.from_run_id = (SELECT MIN(r.run_id) FROM sqlkmeans.run AS r
                       WHERE r.segmentation = N''sqlkmeans_self_test_tsql'')
  AND m.to_run_id = (SELECT MAX(r.run_id) FROM sqlkmeans.run AS r
                     WHERE r.segmentation = N''sqlkmeans_self_test_tsql'')
  AND COALESCE(m.from_segment_id, 0) <> COALESCE(m.to_segment_id, 0);'),
    (N'rename', NULL, N'
EXECUTE sqlkmeans.rename_segment
    @segmentation = N''sqlkmeans_self_test_tsql'', @segment_id = 3, @name = N''Größte ''''Käufer'''''';
SELECT @wrong = 2 - COUNT_BIG(*)
FROM (SELECT DISTINCT v.segment_name FROM sqlkmeans_self_test.segment_tsql_named AS v
      WHERE v.segment_id = 3
      UNION ALL
      SELECT f.segment_name
      FROM sqlkmeans.assign_sqlkmeans_self_test_tsql(160500e0, 121, ''Stavanger'') AS f) AS n
WHERE n.segment_name = N''Größte ''''Käufer'''''';'),
    (N'rollback to the first run', NULL, N'
DECLARE @first bigint;
SELECT @first = MIN(r.run_id) FROM sqlkmeans.run AS r
WHERE r.segmentation = N''sqlkmeans_self_test_tsql'';
EXECUTE sqlkmeans.rollback_segmentation
    @segmentation = N''sqlkmeans_self_test_tsql'', @run_id = @first, @quiet = 1;
SELECT @wrong = COUNT_BIG(*)
FROM sqlkmeans.self_test_customers() AS c
FULL JOIN sqlkmeans_self_test.segment_tsql AS s ON s.customer_id = c.customer_id
WHERE c.segment_id IS NULL OR s.segment_id IS NULL OR s.segment_id <> c.segment_id;'),
    (N'define it anew with a guard', NULL, N'
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N''sqlkmeans_self_test_tsql'', @source = N''sqlkmeans_self_test.customer'',
    @key = N''customer_id'', @features = N''["income", {"column": "orders", "transform": "log1p", "weight": 2}, {"column": "city", "type": "category"}]'',
    @k = 3, @target = N''sqlkmeans_self_test.segment_tsql'', @missing = N''mean'', @n_init = 2,
    @engine = N''tsql'', @guard = N''{"action": "refuse", "moved": 0.1}'', @quiet = 1;'),
    (N'a guard refuses what reshuffles the segments', N'50003 %moved: %', N'
DELETE FROM sqlkmeans_self_test.customer;
INSERT INTO sqlkmeans_self_test.customer (customer_id, income, orders, city)
SELECT CASE WHEN c.customer_id < 9007199254741143 THEN c.customer_id + 150 ELSE c.customer_id - 150 END,
    c.income, c.orders, c.city
FROM sqlkmeans.self_test_customers() AS c;
EXECUTE sqlkmeans.run_segmentation
    @segmentation = N''sqlkmeans_self_test_tsql'', @engine = N''tsql'', @quiet = 1;'),
    (N'what was refused changed nothing', NULL, N'
SELECT @wrong = COUNT_BIG(*)
FROM sqlkmeans.self_test_customers() AS c
FULL JOIN sqlkmeans_self_test.segment_tsql AS s ON s.customer_id = c.customer_id
WHERE c.segment_id IS NULL OR s.segment_id IS NULL OR s.segment_id <> c.segment_id;
SELECT @wrong = @wrong + 1 - COUNT_BIG(*) FROM sqlkmeans.run AS r
WHERE r.segmentation = N''sqlkmeans_self_test_tsql'' AND r.status = N''failed'';'),
    (N'ids and names stay when it trains again', NULL, N'
DELETE FROM sqlkmeans_self_test.customer;
INSERT INTO sqlkmeans_self_test.customer (customer_id, income, orders, city)
SELECT c.customer_id, c.income, c.orders, c.city FROM sqlkmeans.self_test_customers() AS c;
EXECUTE sqlkmeans.run_segmentation
    @segmentation = N''sqlkmeans_self_test_tsql'', @engine = N''tsql'', @quiet = 1;
SELECT @wrong = COUNT_BIG(*)
FROM sqlkmeans.self_test_customers() AS c
FULL JOIN sqlkmeans_self_test.segment_tsql_named AS s ON s.customer_id = c.customer_id
WHERE c.segment_id IS NULL OR s.segment_id IS NULL OR s.segment_id <> c.segment_id
   OR (s.segment_id = 3 AND s.segment_name <> N''Größte ''''Käufer'''''');'),
    (N'a run that is killed', NULL, N'
EXECUTE sqlkmeans.start_run @segmentation = N''sqlkmeans_self_test_tsql'';
SELECT @wrong = 1 - COUNT_BIG(*)
FROM sqlkmeans.run AS r
WHERE r.segmentation = N''sqlkmeans_self_test_tsql'' AND r.status = N''running''
  AND OBJECT_ID(N''sqlkmeans.staging_'' + CAST(r.run_id AS nvarchar(20)), N''U'') IS NOT NULL;'),
    (N'a killed run is cleared away by the next', NULL, N'
DECLARE @killed bigint;
SELECT @killed = MAX(r.run_id) FROM sqlkmeans.run AS r
WHERE r.segmentation = N''sqlkmeans_self_test_tsql'';
EXECUTE sqlkmeans.assign_segments @segmentation = N''sqlkmeans_self_test_tsql'', @quiet = 1;
SELECT @wrong = COUNT_BIG(*)
FROM sqlkmeans.run AS r
WHERE r.segmentation = N''sqlkmeans_self_test_tsql'' AND r.status = N''running'';
IF OBJECT_ID(N''sqlkmeans.staging_'' + CAST(@killed AS nvarchar(20)), N''U'') IS NOT NULL
    SET @wrong = @wrong + 1;'),
    (N'a lock that a cancelled call kept goes with the next', NULL, N'
EXECUTE sqlkmeans.take_lock @segmentation = N''sqlkmeans_self_test_tsql'';
EXECUTE sqlkmeans.assign_segments @segmentation = N''sqlkmeans_self_test_tsql'', @quiet = 1;
IF APPLOCK_MODE(N''sqlkmeans_operator'', sqlkmeans.lock_name(N''sqlkmeans_self_test_tsql''), N''Session'')
   <> N''NoLock''
    SET @wrong = 1;'),
    (N'no call inside a transaction', N'50002 %inside a transaction%', N'
BEGIN TRANSACTION;
EXECUTE sqlkmeans.assign_segments @segmentation = N''sqlkmeans_self_test_tsql'', @quiet = 1;'),
    (N'no call by INSERT EXECUTE', N'50002 %inside a transaction%', N'
DECLARE @answer table (answer bigint NULL);
INSERT INTO @answer (answer)
EXECUTE sqlkmeans.rollback_segmentation @segmentation = N''sqlkmeans_self_test_tsql'', @quiet = 1;'),
    (N'the job of SQL Server Agent', NULL, N'
IF CAST(SERVERPROPERTY(''EngineEdition'') AS int) = 4
    SET @detail = N''not here: Express has no Agent'';
ELSE IF OBJECT_ID(N''msdb.dbo.sp_add_job'', N''P'') IS NULL
    SET @detail = N''not here: this server has no Agent, or you may not use it'';
EXECUTE sqlkmeans.create_agent_job
    @segmentation = N''sqlkmeans_self_test_tsql'', @step = N''assign'', @execute = 0, @quiet = 1;');

    -- Expressions as many and as long as a model of such a size has.
    INSERT INTO #sqlkmeans_check (name, statement)
    SELECT N'k = ' + CAST(s.k AS nvarchar(10)) + N' over ' + CAST(s.features AS nvarchar(10))
            + N' log1p features: ' + c.name,
        REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(c.statement,
            N'{columns}', sqlkmeans.each_number(s.features, N'f{} float NOT NULL', N', ')),
            N'{values}', sqlkmeans.each_number(
                s.features, N'1000 + o.g * {} * 37 % 101 * 100 + o.n', N', ')),
            N'{features}', sqlkmeans.each_number(
                s.features, N'{"column": "f{}", "transform": "log1p"}', N', ')),
            N'{names}', sqlkmeans.each_number(s.features, N'c.f{}', N', ')),
            N'{k}', CAST(s.k AS nvarchar(10)))
    FROM (VALUES (10, 10), (20, 20)) AS s (k, features)
    CROSS JOIN (VALUES
    (1, N'define', N'
CREATE TABLE sqlkmeans_self_test.wide_{k} (customer_id int NOT NULL PRIMARY KEY, {columns});
INSERT INTO sqlkmeans_self_test.wide_{k}
SELECT c.customer_id - 9007199254740992, {values}
FROM sqlkmeans.self_test_customers() AS c
CROSS APPLY (SELECT CAST(c.customer_id % {k} AS int) AS g, CAST(c.customer_id % 7 AS float) AS n) AS o;
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N''sqlkmeans_self_test_wide_{k}'', @source = N''sqlkmeans_self_test.wide_{k}'',
    @key = N''customer_id'', @features = N''[{features}]'', @k = {k}, @n_init = 1, @engine = N''tsql'',
    @target = N''sqlkmeans_self_test.segment_wide_{k}'', @quiet = 1;'),
    (2, N'train', N'
EXECUTE sqlkmeans.run_segmentation @segmentation = N''sqlkmeans_self_test_wide_{k}'', @quiet = 1;'),
    (3, N'assign moves nobody', N'
EXECUTE sqlkmeans.assign_segments @segmentation = N''sqlkmeans_self_test_wide_{k}'', @quiet = 1;
SELECT @wrong = SUM(CASE WHEN r.moved = 0 THEN 0 ELSE 1 END)
FROM sqlkmeans.run AS r
WHERE r.segmentation = N''sqlkmeans_self_test_wide_{k}'' AND r.kind = N''assign'';'),
    (4, N'the function says what the table says', N'
SELECT @wrong = COUNT_BIG(*)
FROM sqlkmeans_self_test.wide_{k} AS c
LEFT JOIN sqlkmeans_self_test.segment_wide_{k} AS s ON s.customer_id = c.customer_id
OUTER APPLY sqlkmeans.assign_sqlkmeans_self_test_wide_{k}({names}) AS f
WHERE s.segment_id IS NULL OR f.segment_id IS NULL OR f.segment_id <> s.segment_id
   OR f.segment_name IS NULL OR ABS(f.distance - s.distance) > 1e-9;')
    ) AS c (position, name, statement)
    ORDER BY s.k, c.position;
END;
GO
