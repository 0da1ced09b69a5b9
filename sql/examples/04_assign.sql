/*
New customers come, others change; the stored model labels them without any Python. Needs one
trained run of the segmentation customers.
*/
INSERT INTO dbo.customer (customer_id, income, age)
SELECT v.customer_id, v.income, v.age
FROM (VALUES (900001, 188000e0, 60e0), (900002, 47000e0, 39e0)) AS v (customer_id, income, age)
WHERE NOT EXISTS (SELECT 1 FROM dbo.customer AS c WHERE c.customer_id = v.customer_id);

UPDATE dbo.customer SET income = 190000, age = 62 WHERE customer_id BETWEEN 2 AND 11;
GO
EXECUTE sqlkmeans.assign_segments @segmentation = N'customers';
GO
-- Or score a row in a query, before it is even stored.
SELECT f.segment_id, f.segment_name, f.distance, f.runner_up_distance
FROM sqlkmeans.assign_customers(120000, 42) AS f;
GO
