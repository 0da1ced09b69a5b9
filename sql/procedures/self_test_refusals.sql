IF OBJECT_ID(N'sqlkmeans.self_test_refusals', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.self_test_refusals AS RETURN 0;');
GO
-- Adds to the caller's #sqlkmeans_check: names that need their brackets work, and definitions that
-- would harm somebody are refused.
ALTER PROCEDURE sqlkmeans.self_test_refusals
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    INSERT INTO #sqlkmeans_check (name, statement)
    VALUES (N'brackets and quotes in names', N'
-- A server that has no EXECUTE AS does not take such names either.
IF OBJECT_ID(N''sys.parameters'') IS NULL
    SET @detail = N''not here: this server takes no such names'';');

    INSERT INTO #sqlkmeans_check (name, needs, statement)
    SELECT n.name + c.name, n.needs,
        REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(c.statement,
            N'{segmentation}', n.segmentation),
            N'{source}', sqlkmeans.text_literal(N'sqlkmeans_self_test.' + QUOTENAME(n.[table]))),
            N'{target}', sqlkmeans.text_literal(N'sqlkmeans_self_test.' + QUOTENAME(n.[table] + N' labels'))),
            N'{keys}', sqlkmeans.text_literal(N'[' + sqlkmeans.json_text(n.[key]) + N']')),
            N'{features}', sqlkmeans.text_literal(N'[' + sqlkmeans.json_text(n.feature) + N', "orders"]')),
            N'{table}', QUOTENAME(n.[table])),
            N'{named}', QUOTENAME(n.[table] + N' labels_named')),
            N'{key}', QUOTENAME(n.[key])),
            N'{feature}', QUOTENAME(n.feature))
    FROM (VALUES
        (1, N'blanks and letters of other alphabets: ', NULL, N'sqlkmeans_self_test_unicode',
            N'käufer in übersicht', N'kunden nr', N'umsätze €'),
        (2, N'brackets and quotes: ', N',brackets and quotes in names,', N'sqlkmeans_self_test_quotes',
            N'Käufer ]''"x', N'Kunden-Nr. ]''"', N'Umsatz € ]''"')
    ) AS n (position, name, needs, segmentation, [table], [key], feature)
    CROSS JOIN (VALUES
    (1, N'define', N'
CREATE TABLE sqlkmeans_self_test.{table} ({key} bigint NOT NULL PRIMARY KEY, {feature} float NOT NULL, orders int NOT NULL);
INSERT INTO sqlkmeans_self_test.{table}
SELECT c.customer_id, COALESCE(c.income, 40000), c.orders FROM sqlkmeans.self_test_customers() AS c;
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N''{segmentation}'', @source = {source}, @key = {keys}, @features = {features},
    @k = 3, @n_init = 2, @target = {target}, @engine = N''tsql'', @quiet = 1;'),
    (2, N'train', N'
EXECUTE sqlkmeans.run_segmentation @segmentation = N''{segmentation}'', @quiet = 1;'),
    (3, N'assign', N'
EXECUTE sqlkmeans.assign_segments @segmentation = N''{segmentation}'', @quiet = 1;'),
    (4, N'the view and the function say what Python says', N'
SELECT @wrong = COUNT_BIG(*)
FROM sqlkmeans.self_test_customers() AS c
INNER JOIN sqlkmeans_self_test.{table} AS x ON x.{key} = c.customer_id
LEFT JOIN sqlkmeans_self_test.{named} AS s ON s.{key} = c.customer_id
OUTER APPLY sqlkmeans.assign_{segmentation}(x.{feature}, x.orders) AS f
WHERE s.segment_id IS NULL OR f.segment_id IS NULL OR s.segment_id <> c.segment_id
   OR f.segment_id <> c.segment_id;')
    ) AS c (position, name, statement)
    ORDER BY n.position, c.position;

    INSERT INTO #sqlkmeans_check (name, expected, statement)
    VALUES
    (N'names that differ in case only', NULL, N'
IF N''a'' = N''A''
    SET @detail = N''not here: this database does not tell cases apart'';
ELSE IF OBJECT_ID(N''sys.parameters'') IS NULL
    SET @detail = N''not here: this server does not tell cases of names apart'';
ELSE
BEGIN
    EXECUTE (N''CREATE TABLE sqlkmeans_self_test.Mixed (Id int NOT NULL PRIMARY KEY, Income float NOT NULL, income float NOT NULL);
INSERT INTO sqlkmeans_self_test.Mixed SELECT c.customer_id - 9007199254740992, COALESCE(c.income, 40000), c.orders FROM sqlkmeans.self_test_customers() AS c;'');
    EXECUTE sqlkmeans.define_segmentation
        @segmentation = N''sqlkmeans_self_test_Case'', @source = N''sqlkmeans_self_test.Mixed'', @key = N''Id'',
        @features = N''Income, income'', @k = 3, @n_init = 2, @engine = N''tsql'',
        @target = N''sqlkmeans_self_test.Mixed_Labels'', @quiet = 1;
    EXECUTE sqlkmeans.run_segmentation @segmentation = N''sqlkmeans_self_test_Case'', @quiet = 1;
    EXECUTE sys.sp_executesql
        N''SELECT @wrong = COUNT_BIG(*) FROM sqlkmeans.self_test_customers() AS c LEFT JOIN sqlkmeans_self_test.Mixed_Labels AS s ON s.Id = c.customer_id - 9007199254740992 WHERE s.segment_id IS NULL OR s.segment_id <> c.segment_id;'',
        N''@wrong bigint OUTPUT'', @wrong = @wrong OUTPUT;
END;'),
    (N'somebody else''s tables', NULL, N'
EXECUTE (N''CREATE VIEW sqlkmeans_self_test.somebodys_view AS SELECT 1 AS customer_id;'');
CREATE TABLE sqlkmeans_self_test.somebodys (customer_id bigint NOT NULL PRIMARY KEY, segment_id int NOT NULL,
    distance float NOT NULL, is_outlier bit NOT NULL, run_id bigint NOT NULL, assigned_at datetime2(6) NOT NULL);
CREATE TABLE sqlkmeans_self_test.mine_history (customer_id bigint NOT NULL);
INSERT INTO sqlkmeans_self_test.mine_history (customer_id) VALUES (1);'),
    (N'every problem of a definition at once', N'50002 %@k: 1 given%@scaling: big given%', N'
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N''sqlkmeans_self_test_refused'', @source = N''sqlkmeans_self_test.customer'', @key = N''customer_id'',
    @features = N''income'', @k = 1, @scaling = N''big'', @target = N''sqlkmeans_self_test.refused'', @quiet = 1;'),
    (N'no second statement in a source', N'50002 %semicolon%', N'
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N''sqlkmeans_self_test_refused'', @source = N''SELECT customer_id, income FROM sqlkmeans_self_test.customer; DROP TABLE sqlkmeans_self_test.customer'',
    @key = N''customer_id'', @features = N''income'', @k = 2, @target = N''sqlkmeans_self_test.refused'', @quiet = 1;'),
    (N'a trigger on a target is not run as the owner', N'50002 %has the trigger %', N'
EXECUTE (N''CREATE TRIGGER sqlkmeans_self_test.somebodys_trigger ON sqlkmeans_self_test.segment_tsql AFTER INSERT AS SET NOCOUNT ON;'');
BEGIN TRY
    EXECUTE sqlkmeans.assign_segments @segmentation = N''sqlkmeans_self_test_tsql'', @quiet = 1;
    EXECUTE (N''DROP TRIGGER sqlkmeans_self_test.somebodys_trigger;'');
END TRY
BEGIN CATCH
    EXECUTE (N''DROP TRIGGER sqlkmeans_self_test.somebodys_trigger;'');
    THROW;
END CATCH;'),
    (N'a table with keys that repeat', NULL, N'
CREATE TABLE sqlkmeans_self_test.twice (customer_id bigint NOT NULL, income float NULL);
INSERT INTO sqlkmeans_self_test.twice (customer_id, income)
SELECT c.customer_id, c.income FROM sqlkmeans.self_test_customers() AS c
UNION ALL SELECT c.customer_id, c.income FROM sqlkmeans.self_test_customers() AS c;
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N''sqlkmeans_self_test_twice'', @source = N''sqlkmeans_self_test.twice'', @key = N''customer_id'',
    @features = N''income'', @k = 2, @missing = N''mean'', @engine = N''tsql'',
    @target = N''sqlkmeans_self_test.segment_twice'', @quiet = 1;'),
    (N'a table with an income that is not known', NULL, N'
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N''sqlkmeans_self_test_missing'', @source = N''sqlkmeans_self_test.customer'', @key = N''customer_id'',
    @features = N''income'', @k = 2, @missing = N''error'', @engine = N''tsql'',
    @target = N''sqlkmeans_self_test.segment_missing'', @quiet = 1;'),
    (N'keys that repeat are told in words', N'50003 %key%', N'
EXECUTE sqlkmeans.run_segmentation @segmentation = N''sqlkmeans_self_test_twice'', @quiet = 1;'),
    (N'an income that is not known is told in words', N'50003 %income%', N'
EXECUTE sqlkmeans.run_segmentation @segmentation = N''sqlkmeans_self_test_missing'', @quiet = 1;');

    INSERT INTO #sqlkmeans_check (name, expected, statement)
    SELECT t.name, t.expected, N'
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N''sqlkmeans_self_test_refused'', @source = N''sqlkmeans_self_test.customer'', @key = N''customer_id'',
    @features = N''orders'', @k = 2, @target = N''' + t.target + N''', @quiet = 1;'
    FROM (VALUES
        (1, N'a view is no target', N'sqlkmeans_self_test.somebodys_view', N'50002 %did not make it%'),
        (2, N'somebody else''s table is no target', N'sqlkmeans_self_test.somebodys',
            N'50002 %did not make it%'),
        (3, N'somebody else''s history is left alone', N'sqlkmeans_self_test.mine', N'50002 %did not make it%'),
        (4, N'the source is no target', N'sqlkmeans_self_test.customer', N'50002 %is the source itself%'),
        (5, N'another segmentation''s target is no target', N'sqlkmeans_self_test.segment_tsql',
            N'50002 %is the target of segmentation%')
    ) AS t (position, name, target, expected)
    ORDER BY t.position;
END;
GO
