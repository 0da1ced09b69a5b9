IF OBJECT_ID(N'sqlkmeans.centroid', N'U') IS NULL
    CREATE TABLE sqlkmeans.centroid
    (
        run_id           bigint        NOT NULL,
        segment_id       int           NOT NULL,
        position         int           NOT NULL,
        feature          nvarchar(400) NOT NULL,
        value            float         NOT NULL,
        scaled_value     float         NOT NULL,
        outlier_distance float         NULL,
        CONSTRAINT pk_centroid PRIMARY KEY CLUSTERED (run_id, segment_id, position)
    );
GO
