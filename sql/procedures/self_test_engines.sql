IF OBJECT_ID(N'sqlkmeans.self_test_engines', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.self_test_engines AS RETURN 0;');
GO
-- Adds to the caller's #sqlkmeans_check: what a training run publishes, with each engine that this
-- server has, is what Python published of the same customers.
ALTER PROCEDURE sqlkmeans.self_test_engines
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    INSERT INTO #sqlkmeans_check (name, statement)
    VALUES
    (N'versions', N'
SELECT @detail = N''sqlkmeans '' + sqlkmeans.version() + N'', schema ''
    + CAST(MAX(v.version) AS nvarchar(10))
FROM sqlkmeans.schema_version AS v;'),
    (N'procedures run as the owner', N'
IF OBJECT_ID(N''sys.parameters'') IS NULL
    SET @detail = N''not here: this server has no EXECUTE AS'';
ELSE
    EXECUTE sqlkmeans.as_owner
        @statement = N''SET @written = CASE USER_NAME() WHEN N''''dbo'''' THEN 0 ELSE 1 END;'',
        @written = @wrong OUTPUT;'),
    (N'customers', N'
CREATE TABLE sqlkmeans_self_test.customer
(
    customer_id bigint   NOT NULL PRIMARY KEY,
    income      float    NULL,
    orders      int      NOT NULL,
    city        char(10) NOT NULL
);
INSERT INTO sqlkmeans_self_test.customer (customer_id, income, orders, city)
SELECT c.customer_id, c.income, c.orders, c.city FROM sqlkmeans.self_test_customers() AS c;
SELECT @wrong = 300 - COUNT_BIG(*) FROM sqlkmeans_self_test.customer AS c;'),
    (N'external scripts', N'
IF OBJECT_ID(N''sys.sp_execute_external_script'') IS NULL
    SET @detail = N''not here: this server runs no external scripts'';
ELSE IF NOT EXISTS (SELECT 1 FROM sys.configurations AS c
                    WHERE c.name = N''external scripts enabled'' AND CAST(c.value_in_use AS int) = 1)
    SET @detail = N''not here: external scripts are off (docs/deploy.md)'';
ELSE
BEGIN
    DECLARE @version nvarchar(200);
    EXECUTE sys.sp_execute_external_script
        @language = N''Python'',
        @script = N''
try:
    import sqlkmeans
    version = sqlkmeans.__version__
except ImportError:
    version = ""
'',
        @params = N''@version nvarchar(200) OUTPUT'',
        @version = @version OUTPUT;
    SET @detail = N''the package is '' + @version;
    IF @version = N''''
        SET @detail = N''not here: the Python of this server has no package sqlkmeans (docs/deploy.md)'';
    ELSE IF @version <> sqlkmeans.version()
        SET @wrong = 1;
END;');

    INSERT INTO #sqlkmeans_check (name, needs, statement)
    SELECT REPLACE(c.name, N'{engine}', e.engine), e.needs, REPLACE(c.statement, N'{engine}', e.engine)
    FROM (VALUES (1, N'tsql', N',customers,'),
                 (2, N'in_database', N',customers,external scripts,')) AS e (position, engine, needs)
    CROSS JOIN (VALUES
    (1, N'define, for {engine}', N'
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N''sqlkmeans_self_test_{engine}'', @source = N''sqlkmeans_self_test.customer'',
    @key = N''customer_id'', @features = N''["income", {"column": "orders", "transform": "log1p", "weight": 2}, {"column": "city", "type": "category"}]'',
    @k = 3, @target = N''sqlkmeans_self_test.segment_{engine}'', @missing = N''mean'', @n_init = 2,
    @engine = N''{engine}'', @quiet = 1;
SELECT @wrong = 1 - COUNT_BIG(*) FROM sqlkmeans.segmentation AS g
WHERE g.name = N''sqlkmeans_self_test_{engine}'' AND ISJSON(g.definition) = 1;'),
    (2, N'train with {engine}', N'
EXECUTE sqlkmeans.run_segmentation
    @segmentation = N''sqlkmeans_self_test_{engine}'', @engine = N''{engine}'', @quiet = 1;
SELECT @wrong = 1 - COUNT_BIG(*) FROM sqlkmeans.run AS r
WHERE r.segmentation = N''sqlkmeans_self_test_{engine}'' AND r.status = N''published''
  AND r.[rows] = 300 AND r.arrived = 300;'),
    (3, N'labels of {engine} are those of Python', N'
SELECT @wrong = COUNT_BIG(*)
FROM sqlkmeans.self_test_customers() AS c
FULL JOIN sqlkmeans_self_test.segment_{engine} AS s ON s.customer_id = c.customer_id
WHERE c.segment_id IS NULL OR s.segment_id IS NULL OR s.segment_id <> c.segment_id;'),
    (4, N'centroids of {engine} are those of Python', N'
SELECT @wrong = SUM(CASE WHEN ABS(c.scaled_value - r.scaled_value) <= 1e-9 THEN 0 ELSE 1 END),
    @detail = N''largest difference '' + LTRIM(RTRIM(CONVERT(nvarchar(40), MAX(ABS(c.scaled_value - r.scaled_value)), 3)))
FROM (SELECT m.segment_id, m.position, m.scaled_value,
          RTRIM(m.feature) + N''.'' COLLATE Latin1_General_100_BIN2 AS feature
      FROM sqlkmeans.centroid AS m
      INNER JOIN sqlkmeans.segmentation AS g ON g.active_run_id = m.run_id
      WHERE g.name = N''sqlkmeans_self_test_{engine}'') AS c
FULL JOIN (SELECT k.segment_id, k.position, k.scaled_value,
               k.feature + N''.'' COLLATE Latin1_General_100_BIN2 AS feature
           FROM sqlkmeans.self_test_record() AS k
           WHERE k.segment_id > 0) AS r
    ON r.segment_id = c.segment_id AND r.position = c.position AND r.feature = c.feature;'),
    (5, N'inertia of {engine} is that of Python', N'
SELECT @wrong = SUM(CASE WHEN ABS(r.inertia - k.scaled_value) <= 1e-9 * k.scaled_value THEN 0 ELSE 1 END),
    @detail = N''difference '' + LTRIM(RTRIM(CONVERT(nvarchar(40), MAX(ABS(r.inertia - k.scaled_value)), 3)))
FROM sqlkmeans.self_test_record() AS k
LEFT JOIN sqlkmeans.run AS r
    ON r.segmentation = N''sqlkmeans_self_test_{engine}'' AND r.status = N''published''
WHERE k.segment_id = 0;'),
    (6, N'the function of {engine} says what the table says, for each row', N'
SELECT @wrong = COUNT_BIG(*)
FROM sqlkmeans_self_test.customer AS c
LEFT JOIN sqlkmeans_self_test.segment_{engine} AS s ON s.customer_id = c.customer_id
OUTER APPLY sqlkmeans.assign_sqlkmeans_self_test_{engine}(c.income, c.orders, c.city) AS f
WHERE s.segment_id IS NULL OR f.segment_id IS NULL OR f.segment_id <> s.segment_id
   OR ABS(f.distance - s.distance) > 1e-9 OR f.runner_up_distance <= f.distance;'),
    (7, N'a char(10) category is learnt to the letter by {engine}', N'
SELECT @wrong = 4 - COUNT_BIG(*)
FROM sqlkmeans.model_feature AS f
INNER JOIN sqlkmeans.segmentation AS g ON g.active_run_id = f.run_id
WHERE g.name = N''sqlkmeans_self_test_{engine}'' AND f.type = N''category''
  AND LEN(f.level + N''.'') = 11;')
    ) AS c (position, name, statement)
    ORDER BY e.position, c.position;
END;
GO
