IF OBJECT_ID(N'sqlkmeans.feature_bin', N'U') IS NULL
    CREATE TABLE sqlkmeans.feature_bin
    (
        run_id    bigint        NOT NULL,
        position  int           NOT NULL,
        bin       int           NOT NULL,
        feature   nvarchar(400) NOT NULL,
        label     nvarchar(400) NOT NULL,
        upper     float         NULL,
        customers bigint        NOT NULL,
        CONSTRAINT pk_feature_bin PRIMARY KEY CLUSTERED (run_id, position, bin)
    );
GO
