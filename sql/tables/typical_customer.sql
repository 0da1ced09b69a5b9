IF OBJECT_ID(N'sqlkmeans.typical_customer', N'U') IS NULL
    CREATE TABLE sqlkmeans.typical_customer
    (
        run_id     bigint        NOT NULL,
        segment_id int           NOT NULL,
        [rank]     int           NOT NULL,
        customer   nvarchar(max) NOT NULL,
        distance   float         NOT NULL,
        CONSTRAINT pk_typical_customer PRIMARY KEY CLUSTERED (run_id, segment_id, [rank])
    );
GO
