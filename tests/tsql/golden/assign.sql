CREATE FUNCTION sqlkmeans.[assign_customers]
(
    @income float,
    @feature_2 float
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
                (1, N'high income', 1.5e0, 0.5e0, -1.25e0),
                (2, N'it''s average', 2.25e0, -0.125e0, 1e-07),
                (4, N'older', 0.001e0, 2.0e0, 3.0e0)
            ) AS c (segment_id, segment_name, outlier_distance, c1, c2)
            CROSS APPLY (SELECT (z.z1 - c.c1) * (z.z1 - c.c1) + (z.z2 - c.c2) * (z.z2 - c.c2) AS squared_distance) AS d
            WHERE c.segment_id <> n.segment_id
        ) AS runner_up_distance,
        CAST(CASE WHEN SQRT(n.squared_distance) > n.outlier_distance THEN 1
                  WHEN n.segment_id IS NOT NULL THEN 0 END AS bit) AS is_outlier
    FROM (
        SELECT
            COALESCE(@income, 50000.0e0) AS x1,
            @feature_2 AS x2
    ) AS x
    CROSS APPLY (
        SELECT
            CASE WHEN (1e0 + x.x1) = 1e0 THEN x.x1 WHEN x.x1 > -1e0 THEN LOG(1e0 + x.x1) * (x.x1 / ((1e0 + x.x1) - 1e0)) END AS t1,
            x.x2 AS t2
    ) AS t
    CROSS APPLY (
        SELECT
            (t.t1 - (10.5e0)) / 0.375e0 AS z1,
            (t.t2 - (41.25e0)) / 12.5e0 AS z2
    ) AS z
    OUTER APPLY (
        SELECT TOP (1) c.segment_id, c.segment_name, c.outlier_distance, d.squared_distance
        FROM (VALUES
            (1, N'high income', 1.5e0, 0.5e0, -1.25e0),
            (2, N'it''s average', 2.25e0, -0.125e0, 1e-07),
            (4, N'older', 0.001e0, 2.0e0, 3.0e0)
        ) AS c (segment_id, segment_name, outlier_distance, c1, c2)
        CROSS APPLY (SELECT (z.z1 - c.c1) * (z.z1 - c.c1) + (z.z2 - c.c2) * (z.z2 - c.c2) AS squared_distance) AS d
        WHERE d.squared_distance IS NOT NULL
        ORDER BY d.squared_distance, c.segment_id
    ) AS n
);
