IF OBJECT_ID(N'sqlkmeans.segment_feature', N'U') IS NULL
    CREATE TABLE sqlkmeans.segment_feature
    (
        run_id     bigint        NOT NULL,
        segment_id int           NOT NULL,
        position   int           NOT NULL,
        feature    nvarchar(400) NOT NULL,
        mean       float         NULL,
        deviation  float         NULL,
        [min]      float         NULL,
        median     float         NULL,
        [max]      float         NULL,
        missing    bigint        NOT NULL,
        importance float         NOT NULL,
        CONSTRAINT pk_segment_feature PRIMARY KEY CLUSTERED (run_id, segment_id, position)
    );
GO
