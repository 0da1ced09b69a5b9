/*
Ten reports on the segmentation customers. They join labels by name or id and never by a number
that a retraining could give to somebody else: segment ids stay with their customers.
*/

-- 1. Sizes: how many customers each segment has.
SELECT s.segment_id, s.segment_name, s.size, s.share
FROM sqlkmeans.segment_summary AS s
WHERE s.segmentation = N'customers'
ORDER BY s.size DESC;
GO
-- 2. Value: what each segment spent in the last year, in all and by customer.
SELECT n.segment_name, COUNT(DISTINCT n.customer_id) AS customers, SUM(o.amount) AS spent,
    SUM(o.amount) / COUNT(DISTINCT n.customer_id) AS spent_by_customer
FROM dbo.customer_segment_named AS n
INNER JOIN dbo.customer_order AS o ON o.customer_id = n.customer_id
WHERE o.ordered_on >= DATEADD(year, -1, CAST(SYSUTCDATETIME() AS date))
GROUP BY n.segment_name
ORDER BY spent DESC;
GO
-- 3. Profile: what sets a segment apart, in the columns' own units, beside everyone (segment 0).
SELECT s.name AS segment_name, p.feature, p.mean, e.mean AS everyone, p.importance
FROM sqlkmeans.segmentation AS g
INNER JOIN sqlkmeans.segment_feature AS p ON p.run_id = g.active_run_id AND p.segment_id > 0
INNER JOIN sqlkmeans.segment_feature AS e
    ON e.run_id = p.run_id AND e.position = p.position AND e.segment_id = 0
INNER JOIN sqlkmeans.segment AS s ON s.run_id = p.run_id AND s.segment_id = p.segment_id
WHERE g.name = N'customers'
ORDER BY s.name, p.position;
GO
-- 4. Who moved in the last month: their segment then and now.
SELECT n.customer_id, b.name AS segment_before, n.segment_name AS segment_now, n.assigned_at
FROM dbo.customer_segment_named AS n
INNER JOIN dbo.customer_segment_history AS h
    ON h.customer_id = n.customer_id AND h.valid_to = n.assigned_at AND h.segment_id <> n.segment_id
CROSS APPLY (
    -- The newest name: a segment that is gone has none in the active model.
    SELECT TOP (1) s.name
    FROM sqlkmeans.segment AS s
    INNER JOIN sqlkmeans.run AS r ON r.run_id = s.run_id
    WHERE r.segmentation = N'customers' AND s.segment_id = h.segment_id
    ORDER BY s.run_id DESC
) AS b
WHERE n.assigned_at >= DATEADD(month, -1, SYSUTCDATETIME())
ORDER BY n.customer_id;
GO
-- 5. Movement between the last two runs: from, to, customers. NULL: not there (yet, any more).
SELECT m.from_segment_id, m.to_segment_id, m.customers
FROM sqlkmeans.segment_movement AS m
INNER JOIN (
    SELECT MAX(CASE WHEN r.place = 2 THEN r.run_id END) AS before_last,
        MAX(CASE WHEN r.place = 1 THEN r.run_id END) AS last
    FROM (
        SELECT l.run_id, ROW_NUMBER() OVER (ORDER BY l.published_at DESC) AS place
        FROM sqlkmeans.run AS l
        WHERE l.segmentation = N'customers' AND l.status = N'published'
    ) AS r
) AS x ON x.before_last = m.from_run_id AND x.last = m.to_run_id
WHERE m.segmentation = N'customers'
ORDER BY m.from_segment_id, m.to_segment_id;
GO
-- 6. As of a date: sizes as they were then (here: now; put the date you want in its place).
DECLARE @then datetime2(6) = SYSUTCDATETIME();
SELECT h.segment_id, COUNT(*) AS customers
FROM dbo.customer_segment_history AS h
WHERE h.valid_from <= @then AND (h.valid_to IS NULL OR h.valid_to > @then)
GROUP BY h.segment_id
ORDER BY h.segment_id;
GO
-- 7. New high-value customers: arrived in the last month, in the segment that spends most.
SELECT n.customer_id, n.segment_name, f.first_seen
FROM dbo.customer_segment_named AS n
INNER JOIN (
    SELECT h.customer_id, MIN(h.valid_from) AS first_seen
    FROM dbo.customer_segment_history AS h
    GROUP BY h.customer_id
) AS f ON f.customer_id = n.customer_id
WHERE f.first_seen >= DATEADD(month, -1, SYSUTCDATETIME())
  AND n.segment_id = (
      SELECT TOP (1) t.segment_id
      FROM dbo.customer_segment AS t
      INNER JOIN dbo.customer_order AS o ON o.customer_id = t.customer_id
      GROUP BY t.segment_id
      ORDER BY SUM(o.amount) / COUNT(DISTINCT t.customer_id) DESC)
ORDER BY n.customer_id;
GO
-- 8. A campaign list by segment name, best customers first. Put the name you gave in its place.
DECLARE @segment_name nvarchar(400) = (
    SELECT TOP (1) s.segment_name FROM sqlkmeans.segment_summary AS s
    WHERE s.segmentation = N'customers' ORDER BY s.size DESC);
SELECT TOP (100) n.customer_id, n.segment_name, SUM(o.amount) AS spent
FROM dbo.customer_segment_named AS n
INNER JOIN dbo.customer_order AS o ON o.customer_id = n.customer_id
WHERE n.segment_name = @segment_name
GROUP BY n.customer_id, n.segment_name
ORDER BY spent DESC, n.customer_id;
GO
-- 9. On the edge: customers almost as near to another segment, who may move next.
SELECT TOP (100) c.customer_id, f.segment_name, f.distance, f.runner_up_distance
FROM dbo.customer AS c
CROSS APPLY sqlkmeans.assign_customers(c.income, c.age) AS f
WHERE f.distance > 0.8 * f.runner_up_distance
ORDER BY f.distance / f.runner_up_distance DESC;
GO
-- 10. Is it time to train again? Distances grow and features drift away from what the model saw;
-- the warnings of an assignment say so where it is beyond the guard's thresholds.
SELECT r.run_id, r.kind, r.published_at, r.[rows],
    SQRT(r.inertia / r.[rows]) AS root_mean_square_distance, r.psi, r.warnings
FROM sqlkmeans.run AS r
WHERE r.segmentation = N'customers' AND r.status = N'published' AND r.inertia IS NOT NULL
ORDER BY r.published_at;
GO
