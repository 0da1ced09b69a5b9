IF OBJECT_ID(N'sqlkmeans.segment', N'U') IS NULL
    CREATE TABLE sqlkmeans.segment
    (
        run_id         bigint        NOT NULL,
        segment_id     int           NOT NULL,
        name           nvarchar(400) NOT NULL,
        name_source    nvarchar(16)  NOT NULL,
        description    nvarchar(max) NOT NULL,
        size           bigint        NOT NULL,
        share          float         NOT NULL,
        within_ss      float         NOT NULL,
        [rule]         nvarchar(max) NULL,
        rule_precision float         NULL,
        rule_coverage  float         NULL,
        silhouette     float         NULL,
        centroid_shift float         NULL,
        outliers       bigint        NULL,
        CONSTRAINT pk_segment PRIMARY KEY CLUSTERED (run_id, segment_id)
    );
GO
