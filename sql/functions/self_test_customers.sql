IF OBJECT_ID(N'sqlkmeans.self_test_customers') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.self_test_customers () RETURNS TABLE
        AS RETURN (SELECT 1 AS customer_id);');
GO
-- The customers of the self-test: three groups that nobody could confuse, made by arithmetic alone, so
-- that they are the same on every server. Keys beyond 2^53, because a key that passes through a float
-- anywhere loses its last digit; cities that differ by case only; an income that is not known.
ALTER FUNCTION sqlkmeans.self_test_customers ()
RETURNS TABLE
AS
RETURN (
    SELECT CAST(9007199254740993 + g.n AS bigint) AS customer_id,
        CASE WHEN g.n = 7 THEN NULL
             ELSE CAST(g.income + g.n * 37 % 101 * 20.5 AS float) END AS income,
        CAST(g.orders + g.n * 13 % 7 AS int) AS orders,
        CAST(g.city AS char(10)) AS city,
        g.segment_id
    FROM (
        SELECT d.n,
            CASE WHEN d.n < 150 THEN 40000 WHEN d.n < 240 THEN 90000 ELSE 160000 END AS income,
            CASE WHEN d.n < 150 THEN 2 WHEN d.n < 240 THEN 30 ELSE 120 END AS orders,
            CASE WHEN d.n < 150 THEN CASE WHEN d.n % 3 = 0 THEN 'oslo' ELSE 'Oslo' END
                 WHEN d.n < 240 THEN 'Bergen'
                 WHEN d.n % 10 = 0 THEN 'Bergen'
                 ELSE 'Stavanger' END AS city,
            CASE WHEN d.n < 150 THEN 1 WHEN d.n < 240 THEN 2 ELSE 3 END AS segment_id
        FROM (
            SELECT a.n + 10 * b.n + 100 * c.n AS n
            FROM (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) AS a (n)
            CROSS JOIN (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) AS b (n)
            CROSS JOIN (VALUES (0), (1), (2)) AS c (n)
        ) AS d
    ) AS g
);
GO
