IF OBJECT_ID(N'sqlkmeans.self_test_people', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.self_test_people AS RETURN 0;');
GO
-- Adds to the caller's #sqlkmeans_check: what each role may do and may not (docs/deploy.md has the same
-- table), with users without a login.
ALTER PROCEDURE sqlkmeans.self_test_people
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    INSERT INTO #sqlkmeans_check (name, needs, statement)
    VALUES
    (N'users', N',customers,', N'
IF OBJECT_ID(N''sys.parameters'') IS NULL
    SET @detail = N''not here: this server has no EXECUTE AS'';
ELSE
BEGIN
    EXECUTE (N''
CREATE USER sqlkmeans_self_test_nobody WITHOUT LOGIN;
CREATE USER sqlkmeans_self_test_reader WITHOUT LOGIN;
CREATE USER sqlkmeans_self_test_operator WITHOUT LOGIN;
CREATE USER sqlkmeans_self_test_visitor WITHOUT LOGIN;
CREATE USER sqlkmeans_self_test_admin WITHOUT LOGIN;'');
    ALTER ROLE sqlkmeans_reader ADD MEMBER sqlkmeans_self_test_reader;
    ALTER ROLE sqlkmeans_operator ADD MEMBER sqlkmeans_self_test_operator;
    ALTER ROLE sqlkmeans_operator ADD MEMBER sqlkmeans_self_test_visitor;
    ALTER ROLE sqlkmeans_admin ADD MEMBER sqlkmeans_self_test_admin;
    GRANT SELECT ON sqlkmeans_self_test.customer TO sqlkmeans_self_test_operator, sqlkmeans_self_test_admin;
    CREATE TABLE sqlkmeans_self_test.secret (customer_id bigint NOT NULL PRIMARY KEY, income float NULL,
        orders int NOT NULL, city char(10) NOT NULL);
    INSERT INTO sqlkmeans_self_test.secret (customer_id, income, orders, city)
    SELECT c.customer_id, c.income, c.orders, c.city FROM sqlkmeans.self_test_customers() AS c;
    EXECUTE (N''CREATE SCHEMA sqlkmeans_self_test_other AUTHORIZATION sqlkmeans_self_test_operator;'');
END;'),
    (N'a masked column', N',users,', N'
EXECUTE (N''CREATE TABLE sqlkmeans_self_test.masked (customer_id bigint NOT NULL PRIMARY KEY,
    income float MASKED WITH (FUNCTION = ''''default()'''') NOT NULL, orders int NOT NULL);
GRANT SELECT ON sqlkmeans_self_test.masked TO sqlkmeans_self_test_admin;'');');

    -- The last columns: nobody, reader, operator, admin. 229 is "permission denied".
    INSERT INTO #sqlkmeans_check (name, needs, person, expected, statement)
    SELECT p.person + N': ' + a.action, N',users,', p.person,
        CASE SUBSTRING(a.may, p.position, 1) WHEN N'0' THEN N'229 %' END, a.statement
    FROM (VALUES
        (1, N'read segments and names', N'0111', N'
SELECT @wrong = 300 - COUNT_BIG(*) FROM sqlkmeans_self_test.segment_tsql_named AS v;'),
        (2, N'read histories', N'0111', N'
SELECT @wrong = 300 - COUNT_BIG(*) FROM sqlkmeans_self_test.segment_tsql_history AS h WHERE h.valid_to IS NULL;'),
        (3, N'read runs and models', N'0111', N'
SELECT @wrong = CASE WHEN COUNT_BIG(*) = 0 THEN 1 ELSE 0 END FROM sqlkmeans.run_log AS r
WHERE r.segmentation = N''sqlkmeans_self_test_tsql'';'),
        (4, N'score with the function', N'0111', N'
SELECT @wrong = 3 - f.segment_id
FROM sqlkmeans.assign_sqlkmeans_self_test_tsql(160500e0, 121, N''Stavanger'') AS f;'),
        (5, N'assign', N'0011', N'
EXECUTE sqlkmeans.assign_segments @segmentation = N''sqlkmeans_self_test_tsql'', @quiet = 1;'),
        (6, N'train with tsql', N'0011', N'
EXECUTE sqlkmeans.run_segmentation @segmentation = N''sqlkmeans_self_test_tsql'', @engine = N''tsql'', @quiet = 1;'),
        (7, N'rename', N'0011', N'
EXECUTE sqlkmeans.rename_segment @segmentation = N''sqlkmeans_self_test_tsql'', @segment_id = 1, @name = N''Sparer'';'),
        (8, N'roll back', N'0011', N'
EXECUTE sqlkmeans.rollback_segmentation @segmentation = N''sqlkmeans_self_test_tsql'', @quiet = 1;'),
        (9, N'define', N'0001', N'
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N''sqlkmeans_self_test_people'', @source = N''sqlkmeans_self_test.customer'', @key = N''customer_id'',
    @features = N''orders'', @k = 2, @target = N''sqlkmeans_self_test.segment_people'', @execute = 0, @quiet = 1;'),
        (10, N'purge', N'0001', N'
EXECUTE sqlkmeans.purge @segmentation = N''sqlkmeans_self_test_tsql'', @execute = 0, @quiet = 1;'),
        (11, N'drop a segmentation', N'0001', N'
EXECUTE sqlkmeans.drop_segmentation @segmentation = N''sqlkmeans_self_test_tsql'', @execute = 0, @quiet = 1;'),
        (12, N'make Agent jobs', N'0001', N'
EXECUTE sqlkmeans.create_agent_job @segmentation = N''sqlkmeans_self_test_tsql'', @step = N''assign'', @execute = 0, @quiet = 1;'),
        (13, N'write to a segment table', N'0000', N'
UPDATE sqlkmeans_self_test.segment_tsql SET segment_id = 1;'),
        (14, N'write to the tables of the schema', N'0000', N'
UPDATE sqlkmeans.segmentation SET target = target;'),
        (15, N'call the procedure that runs as the owner', N'0000', N'
EXECUTE sqlkmeans.as_owner @statement = N''SET @written = 0;'';'),
        (16, N'read a table that they have no SELECT on', N'0000', N'
SELECT @wrong = COUNT_BIG(*) FROM sqlkmeans_self_test.secret AS s;')
    ) AS a (position, action, may, statement)
    CROSS JOIN (VALUES (1, N'nobody'), (2, N'reader'), (3, N'operator'), (4, N'admin')) AS p (position, person)
    ORDER BY a.position, p.position;

    -- What the roles allow, and their checks do not.
    INSERT INTO #sqlkmeans_check (name, needs, person, expected, statement)
    VALUES
    (N'an operator without SELECT on the source cannot assign', N',users,', N'visitor', N'50002 %source%', N'
EXECUTE sqlkmeans.assign_segments @segmentation = N''sqlkmeans_self_test_tsql'', @quiet = 1;'),
    (N'an operator reads no table through a SELECT as source', N',users,', N'operator', N'50002 %source%', N'
DECLARE @definition nvarchar(max);
SELECT @definition = JSON_MODIFY(g.definition, ''$.source'', N''SELECT * FROM sqlkmeans_self_test.secret'')
FROM sqlkmeans.segmentation AS g WHERE g.name = N''sqlkmeans_self_test_tsql'';
EXECUTE sqlkmeans.run_segmentation
    @segmentation = N''sqlkmeans_self_test_tsql'', @definition = @definition, @engine = N''tsql'', @quiet = 1;'),
    (N'an operator changes no source', N',users,', N'operator', N'50002 %source, key or target%', N'
DECLARE @definition nvarchar(max);
SELECT @definition = JSON_MODIFY(g.definition, ''$.source'', N''SELECT * FROM sqlkmeans_self_test.customer'')
FROM sqlkmeans.segmentation AS g WHERE g.name = N''sqlkmeans_self_test_tsql'';
EXECUTE sqlkmeans.run_segmentation
    @segmentation = N''sqlkmeans_self_test_tsql'', @definition = @definition, @engine = N''tsql'', @quiet = 1;'),
    (N'an operator changes no target', N',users,', N'operator', N'50002 %source, key or target%', N'
DECLARE @definition nvarchar(max);
SELECT @definition = JSON_MODIFY(g.definition, ''$.target'', N''sqlkmeans_self_test.elsewhere'')
FROM sqlkmeans.segmentation AS g WHERE g.name = N''sqlkmeans_self_test_tsql'';
EXECUTE sqlkmeans.start_run @segmentation = N''sqlkmeans_self_test_tsql'', @definition = @definition;'),
    (N'an operator takes no source away from the server', N',users,', N'operator', N'50002 %engine (spark or another) is not the one that is registered%', N'
DECLARE @definition nvarchar(max);
SELECT @definition = JSON_MODIFY(g.definition, ''$.engine'', N''spark'')
FROM sqlkmeans.segmentation AS g WHERE g.name = N''sqlkmeans_self_test_tsql'';
EXECUTE sqlkmeans.start_run
    @segmentation = N''sqlkmeans_self_test_tsql'', @definition = @definition, @key_types = N''["bigint"]'';'),
    (N'an operator registers nothing', N',users,', N'operator', N'50002 %is not registered%', N'
DECLARE @definition nvarchar(max);
SELECT @definition = JSON_MODIFY(JSON_MODIFY(g.definition, ''$.target'', N''sqlkmeans_self_test.elsewhere''),
    ''$.name'', N''sqlkmeans_self_test_elsewhere'')
FROM sqlkmeans.segmentation AS g WHERE g.name = N''sqlkmeans_self_test_tsql'';
EXECUTE sqlkmeans.start_run @segmentation = N''sqlkmeans_self_test_elsewhere'', @definition = @definition;'),
    (N'an operator calls nothing inside a transaction', N',users,', N'operator', N'50002 %inside a transaction%', N'
BEGIN TRANSACTION;
EXECUTE sqlkmeans.assign_segments @segmentation = N''sqlkmeans_self_test_tsql'', @quiet = 1;'),
    (N'an admin defines nothing over a table without SELECT on it', N',users,', N'admin', N'50002 %source%', N'
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N''sqlkmeans_self_test_people'', @source = N''SELECT customer_id, orders FROM sqlkmeans_self_test.secret'',
    @key = N''customer_id'', @features = N''orders'', @k = 2, @target = N''sqlkmeans_self_test.segment_people'', @quiet = 1;'),
    (N'a column that is masked for them is not clustered', N',users,a masked column,', N'admin', N'50002 %income: is masked%', N'
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N''sqlkmeans_self_test_people'', @source = N''sqlkmeans_self_test.masked'', @key = N''customer_id'',
    @features = N''income, orders'', @k = 2, @target = N''sqlkmeans_self_test.segment_people'', @quiet = 1;'),
    (N'a schema that somebody else owns holds no target', N',users,', NULL, N'50002 %is owned by%', N'
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N''sqlkmeans_self_test_people'', @source = N''sqlkmeans_self_test.customer'', @key = N''customer_id'',
    @features = N''orders'', @k = 2, @target = N''sqlkmeans_self_test_other.segment'', @quiet = 1;'),
    (N'nobody holds a lock', N',users,', N'nobody', NULL, N'
DECLARE @result int = -999;
BEGIN TRY
    EXECUTE @result = sys.sp_getapplock
        @Resource = N''sqlkmeans self-test'', @LockMode = N''Exclusive'', @LockOwner = N''Session'',
        @LockTimeout = 1, @DbPrincipal = N''sqlkmeans_operator'';
END TRY
BEGIN CATCH
    SET @detail = ERROR_MESSAGE();
END CATCH;
IF @result >= 0
    SET @wrong = 1;'),
    (N'an operator trains with in_database', N',users,external scripts,', N'operator', NULL, N'
EXECUTE sqlkmeans.run_segmentation
    @segmentation = N''sqlkmeans_self_test_in_database'', @engine = N''in_database'', @quiet = 1;');
END;
GO
