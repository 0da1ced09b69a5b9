/*
Demo customers and their orders: 10,000 customers in five clusters of income and age, a few orders
each over two years. The same at every run: the numbers come from a fixed generator, not RAND().
Makes dbo.customer and dbo.customer_order unless they are there.
*/
SET NOCOUNT ON;

IF OBJECT_ID(N'dbo.customer', N'U') IS NULL
BEGIN
    CREATE TABLE dbo.customer
    (
        customer_id bigint NOT NULL CONSTRAINT pk_customer PRIMARY KEY CLUSTERED,
        income      float  NOT NULL,
        age         float  NOT NULL
    );

    WITH digit AS (SELECT v.d FROM (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) AS v (d)),
    number AS (
        SELECT CAST(a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 1 AS bigint) AS n
        FROM digit AS a CROSS JOIN digit AS b CROSS JOIN digit AS c CROSS JOIN digit AS d
    ),
    -- Uniform numbers in (0, 1): multiplying by a primitive root modulo 2^31 - 1 (Lehmer, 1951).
    draw AS (
        SELECT n.n,
            (((n.n * 48271) % 2147483647) * 69621 % 2147483647) / 2147483647e0 AS u1,
            (((n.n * 69621) % 2147483647) * 39373 % 2147483647) / 2147483647e0 AS u2,
            (((n.n * 39373) % 2147483647) * 16807 % 2147483647) % 5 AS cluster
        FROM number AS n
    ),
    center AS (
        SELECT v.cluster, v.income, v.age
        FROM (VALUES (0, 112000e0, 41e0), (1, 191000e0, 61e0), (2, 46000e0, 40e0),
                     (3, 191000e0, 47e0), (4, 76000e0, 21e0)) AS v (cluster, income, age)
    )
    -- Two independent normal numbers out of two uniform ones (Box & Muller, 1958).
    INSERT INTO dbo.customer (customer_id, income, age)
    SELECT d.n,
        ROUND(c.income + 10000 * SQRT(-2 * LOG(d.u1)) * COS(2 * PI() * d.u2), 2),
        ROUND(c.age + 2 * SQRT(-2 * LOG(d.u1)) * SIN(2 * PI() * d.u2), 2)
    FROM draw AS d
    INNER JOIN center AS c ON c.cluster = d.cluster;
END;

IF OBJECT_ID(N'dbo.customer_order', N'U') IS NULL
BEGIN
    CREATE TABLE dbo.customer_order
    (
        order_id    bigint         NOT NULL IDENTITY (1, 1)
            CONSTRAINT pk_customer_order PRIMARY KEY CLUSTERED,
        customer_id bigint         NOT NULL,
        ordered_on  date           NOT NULL,
        amount      decimal(12, 2) NOT NULL
    );

    -- One to eight orders each; who earns more spends more, and some have not come for long.
    INSERT INTO dbo.customer_order (customer_id, ordered_on, amount)
    SELECT c.customer_id,
        DATEADD(day, -CAST((c.customer_id * 7919 + o.n * 104729) % 730 AS int),
                CAST(SYSUTCDATETIME() AS date)),
        ROUND(ABS(c.income) / 2000 + (c.customer_id * o.n * 31 % 5000) / 100e0, 2)
    FROM dbo.customer AS c
    CROSS JOIN (VALUES (1), (2), (3), (4), (5), (6), (7), (8)) AS o (n)
    WHERE o.n <= 1 + c.customer_id % 8;
END;

SELECT (SELECT COUNT(*) FROM dbo.customer AS c) AS customers,
    (SELECT COUNT(*) FROM dbo.customer_order AS o) AS orders;
GO
