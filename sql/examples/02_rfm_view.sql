/*
Recency, frequency and monetary value of every customer, from the orders: the usual first
segmentation of a shop. Needs 01_demo_customers.sql, or tables of your own in its place.
*/
DROP VIEW IF EXISTS dbo.customer_rfm;
GO
CREATE VIEW dbo.customer_rfm
AS
SELECT
    o.customer_id,
    DATEDIFF(day, MAX(o.ordered_on), CAST(SYSUTCDATETIME() AS date)) AS recency_days,
    COUNT_BIG(*) AS orders,
    SUM(o.amount) AS spent
FROM dbo.customer_order AS o
GROUP BY o.customer_id;
GO
