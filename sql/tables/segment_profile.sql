IF OBJECT_ID(N'sqlkmeans.segment_profile', N'U') IS NULL
    CREATE TABLE sqlkmeans.segment_profile
    (
        run_id          bigint        NOT NULL,
        segment_id      int           NOT NULL,
        position        int           NOT NULL,
        source_column   nvarchar(128) NOT NULL,
        type            nvarchar(16)  NOT NULL,
        level           nvarchar(400) NULL,
        known           bigint        NOT NULL,
        missing         bigint        NOT NULL,
        mean            float         NULL,
        deviation       float         NULL,
        median          float         NULL,
        share           float         NULL,
        difference      float         NULL,
        difference_low  float         NULL,
        difference_high float         NULL,
        CONSTRAINT pk_segment_profile PRIMARY KEY CLUSTERED (run_id, segment_id, position)
    );
GO
