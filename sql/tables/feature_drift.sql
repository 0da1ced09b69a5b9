IF OBJECT_ID(N'sqlkmeans.feature_drift', N'U') IS NULL
    CREATE TABLE sqlkmeans.feature_drift
    (
        run_id                 bigint        NOT NULL,
        position               int           NOT NULL,
        feature                nvarchar(400) NOT NULL,
        psi                    float         NOT NULL,
        mean                   float         NULL,
        previous_mean          float         NULL,
        missing_share          float         NOT NULL,
        previous_missing_share float         NOT NULL,
        CONSTRAINT pk_feature_drift PRIMARY KEY CLUSTERED (run_id, position)
    );
GO
