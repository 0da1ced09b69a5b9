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
        b.segment_id,
        CASE b.segment_id WHEN 1 THEN N'high income' WHEN 2 THEN N'it''s average' WHEN 4 THEN N'older' END AS segment_name,
        SQRT(n.squared_distance) AS distance,
        SQRT(LEAST(CASE WHEN b.segment_id <> 1 THEN d.d1 END, CASE WHEN b.segment_id <> 2 THEN d.d2 END, CASE WHEN b.segment_id <> 4 THEN d.d4 END)) AS runner_up_distance
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
    CROSS APPLY (
        SELECT
            (z.z1 - (0.5e0)) * (z.z1 - (0.5e0)) + (z.z2 - (-1.25e0)) * (z.z2 - (-1.25e0)) AS d1,
            (z.z1 - (-0.125e0)) * (z.z1 - (-0.125e0)) + (z.z2 - (1e-07)) * (z.z2 - (1e-07)) AS d2,
            (z.z1 - (2.0e0)) * (z.z1 - (2.0e0)) + (z.z2 - (3.0e0)) * (z.z2 - (3.0e0)) AS d4
    ) AS d
    CROSS APPLY (
        SELECT
            LEAST(d.d1, d.d2, d.d4) AS squared_distance
    ) AS n
    CROSS APPLY (
        SELECT
            CASE n.squared_distance WHEN d.d1 THEN 1 WHEN d.d2 THEN 2 WHEN d.d4 THEN 4 END AS segment_id
    ) AS b
);
