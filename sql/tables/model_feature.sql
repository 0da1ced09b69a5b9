IF OBJECT_ID(N'sqlkmeans.model_feature', N'U') IS NULL
    CREATE TABLE sqlkmeans.model_feature
    (
        run_id         bigint        NOT NULL,
        position       int           NOT NULL,
        feature        nvarchar(400) NOT NULL,
        transform      nvarchar(16)  NOT NULL,
        weight         float         NOT NULL,
        center         float         NOT NULL,
        scale          float         NOT NULL,
        fill           float         NULL,
        source_column  nvarchar(128) NULL,
        type           nvarchar(16)  NOT NULL
            CONSTRAINT df_model_feature_type DEFAULT (N'number'),
        level          nvarchar(400) NULL,
        low            float         NULL,
        high           float         NULL,
        reference_date date          NULL,
        CONSTRAINT pk_model_feature PRIMARY KEY CLUSTERED (run_id, position)
    );
GO
