/*
Registers two segmentations: of the demo's customers by income and age, and of their orders by
recency, frequency and monetary value. Orders and amounts have long tails, so their logarithm is
clustered. Then train each once:

    EXECUTE sqlkmeans.run_segmentation @segmentation = N'customers';   -- with in-database Python
    sqlkmeans run customers --url mssql+mssqlpython://…                -- from any machine, without

and label new customers as often as you like with EXECUTE sqlkmeans.assign_segments.
*/
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N'customers',
    @source = N'dbo.customer',
    @key = N'customer_id',
    @features = N'income, age',
    @k = 5,
    @target = N'dbo.customer_segment';
GO
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N'rfm',
    @source = N'dbo.customer_rfm',
    @key = N'customer_id',
    @features = N'["recency_days",
        {"column": "orders", "transform": "log1p"},
        {"column": "spent", "transform": "log1p"}]',
    @k = 4,
    @target = N'dbo.customer_rfm_segment';
GO
