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
        b.segment_id,
        CASE b.segment_id WHEN 1 THEN N'lapsed' WHEN 2 THEN N'home city mostly Oslo' END AS segment_name,
        SQRT(n.squared_distance) AS distance,
        SQRT(LEAST(CASE WHEN b.segment_id <> 1 THEN d.d1 END, CASE WHEN b.segment_id <> 2 THEN d.d2 END)) AS runner_up_distance
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
    CROSS APPLY (
        SELECT
            (z.z1 - (0.5e0)) * (z.z1 - (0.5e0)) + (z.z2 - (-1.25e0)) * (z.z2 - (-1.25e0)) + (z.z3 - (1.0e0)) * (z.z3 - (1.0e0)) + (z.z4 - (0.0e0)) * (z.z4 - (0.0e0)) + (z.z5 - (2.0e0)) * (z.z5 - (2.0e0)) AS d1,
            (z.z1 - (-0.125e0)) * (z.z1 - (-0.125e0)) + (z.z2 - (1e-07)) * (z.z2 - (1e-07)) + (z.z3 - (0.5e0)) * (z.z3 - (0.5e0)) + (z.z4 - (-1.0e0)) * (z.z4 - (-1.0e0)) + (z.z5 - (0.25e0)) * (z.z5 - (0.25e0)) AS d2
    ) AS d
    CROSS APPLY (
        SELECT
            LEAST(d.d1, d.d2) AS squared_distance
    ) AS n
    CROSS APPLY (
        SELECT
            CASE n.squared_distance WHEN d.d1 THEN 1 WHEN d.d2 THEN 2 END AS segment_id
    ) AS b
);
