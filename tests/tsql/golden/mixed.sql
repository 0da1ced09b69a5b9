CREATE FUNCTION sqlkmeans.[assign_customers]
(
    @spend float,
    @city nvarchar(4000),
    @feature_3 date
)
RETURNS TABLE
AS
RETURN
(
    SELECT
        n.segment_id,
        n.segment_name,
        SQRT(n.squared_distance) AS distance,
        (
            SELECT SQRT(MIN(d.squared_distance))
            FROM (VALUES
                (1, N'lapsed', CAST(NULL AS float), 0.5e0, -1.25e0, 1.0e0, 0.0e0, 2.0e0),
                (2, N'home city mostly Oslo', CAST(NULL AS float), -0.125e0, 1e-07, 0.5e0, -1.0e0, 0.25e0)
            ) AS c (segment_id, segment_name, outlier_distance, c1, c2, c3, c4, c5)
            CROSS APPLY (SELECT (z.z1 - c.c1) * (z.z1 - c.c1) + (z.z2 - c.c2) * (z.z2 - c.c2) + (z.z3 - c.c3) * (z.z3 - c.c3) + (z.z4 - c.c4) * (z.z4 - c.c4) + (z.z5 - c.c5) * (z.z5 - c.c5) AS squared_distance) AS d
            WHERE c.segment_id <> n.segment_id
        ) AS runner_up_distance,
        CAST(CASE WHEN SQRT(n.squared_distance) > n.outlier_distance THEN 1
                  WHEN n.segment_id IS NOT NULL THEN 0 END AS bit) AS is_outlier
    FROM (
        SELECT
            CASE WHEN COALESCE(@spend, 12.5e0) < 0.5e0 THEN 0.5e0 WHEN COALESCE(@spend, 12.5e0) > 900.0e0 THEN 900.0e0 ELSE COALESCE(@spend, 12.5e0) END AS x1,
            CASE WHEN @city IS NULL THEN 1.0e0 WHEN (@city + N'.') COLLATE Latin1_General_100_BIN2 IN (N'Oslo.') THEN 1e0 ELSE 0e0 END AS x2,
            CASE WHEN @city IS NULL THEN 0.0e0 WHEN (@city + N'.') COLLATE Latin1_General_100_BIN2 IN (N'it''s.') THEN 1e0 ELSE 0e0 END AS x3,
            CASE WHEN @city IS NULL THEN 0.0e0 WHEN (@city + N'.') COLLATE Latin1_General_100_BIN2 IN (N'Oslo.', N'it''s.') THEN 0e0 ELSE 1e0 END AS x4,
            CASE WHEN COALESCE(CAST(DATEDIFF(day, @feature_3, CAST('2026-11-23' AS date)) AS float), 150.0e0) < 0.0e0 THEN 0.0e0 WHEN COALESCE(CAST(DATEDIFF(day, @feature_3, CAST('2026-11-23' AS date)) AS float), 150.0e0) > 720.0e0 THEN 720.0e0 ELSE COALESCE(CAST(DATEDIFF(day, @feature_3, CAST('2026-11-23' AS date)) AS float), 150.0e0) END AS x5
    ) AS x
    CROSS APPLY (
        SELECT
            CASE WHEN (1e0 + x.x1) = 1e0 THEN x.x1 WHEN x.x1 > -1e0 THEN LOG(1e0 + x.x1) * (x.x1 / ((1e0 + x.x1) - 1e0)) END AS t1,
            x.x2 AS t2,
            x.x3 AS t3,
            x.x4 AS t4,
            x.x5 AS t5
    ) AS t
    CROSS APPLY (
        SELECT
            (t.t1 - (3.5e0)) / 0.75e0 AS z1,
            (t.t2 - (0.625e0)) / 0.5e0 AS z2,
            (t.t3 - (0.25e0)) / 0.5e0 AS z3,
            (t.t4 - (0.125e0)) / 0.5e0 AS z4,
            (t.t5 - (180.0e0)) / 45.0e0 AS z5
    ) AS z
    OUTER APPLY (
        SELECT TOP (1) c.segment_id, c.segment_name, c.outlier_distance, d.squared_distance
        FROM (VALUES
            (1, N'lapsed', CAST(NULL AS float), 0.5e0, -1.25e0, 1.0e0, 0.0e0, 2.0e0),
            (2, N'home city mostly Oslo', CAST(NULL AS float), -0.125e0, 1e-07, 0.5e0, -1.0e0, 0.25e0)
        ) AS c (segment_id, segment_name, outlier_distance, c1, c2, c3, c4, c5)
        CROSS APPLY (SELECT (z.z1 - c.c1) * (z.z1 - c.c1) + (z.z2 - c.c2) * (z.z2 - c.c2) + (z.z3 - c.c3) * (z.z3 - c.c3) + (z.z4 - c.c4) * (z.z4 - c.c4) + (z.z5 - c.c5) * (z.z5 - c.c5) AS squared_distance) AS d
        WHERE d.squared_distance IS NOT NULL
        ORDER BY d.squared_distance, c.segment_id
    ) AS n
);
