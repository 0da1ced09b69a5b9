IF OBJECT_ID(N'sqlkmeans.run', N'U') IS NULL
    CREATE TABLE sqlkmeans.run
    (
        run_id            bigint        IDENTITY (1, 1) NOT NULL,
        segmentation      nvarchar(128) NOT NULL,
        kind              nvarchar(16)  NOT NULL,
        status            nvarchar(16)  NOT NULL,
        engine            nvarchar(32)  NOT NULL,
        definition        nvarchar(max) NOT NULL,
        model_run_id      bigint        NULL,
        restored_run_id   bigint        NULL,
        k                 int           NULL,
        [rows]            bigint        NULL,
        skipped           bigint        NULL,
        changed           bigint        NULL,
        arrived           bigint        NULL,
        moved             bigint        NULL,
        departed          bigint        NULL,
        written           bigint        NULL,
        inertia           float         NULL,
        n_iter            int           NULL,
        silhouette        float         NULL,
        davies_bouldin    float         NULL,
        calinski_harabasz float         NULL,
        seconds_read      float         NULL,
        seconds_fit       float         NULL,
        seconds_assign    float         NULL,
        seconds_publish   float         NULL,
        seconds_total     float         NULL,
        started_at        datetime2(6)  NOT NULL,
        published_at      datetime2(6)  NULL,
        finished_at       datetime2(6)  NULL,
        sqlkmeans_version nvarchar(64)  NOT NULL,
        library_versions  nvarchar(max) NULL,
        client            nvarchar(400) NULL,
        warnings          nvarchar(max) NULL,
        error             nvarchar(max) NULL,
        compared_run_id   bigint        NULL,
        psi               float         NULL,
        centroid_shift    float         NULL,
        mean_distance     float         NULL,
        recommendation    nvarchar(max) NULL,
        high_water        nvarchar(100) NULL,
        outliers          bigint        NULL,
        CONSTRAINT pk_run PRIMARY KEY CLUSTERED (run_id),
        CONSTRAINT ck_run_kind CHECK (kind IN (N'fit', N'assign', N'rollback', N'choose_k')),
        CONSTRAINT ck_run_status CHECK (status IN (N'running', N'published', N'failed', N'finished'))
    );
GO
-- Who looks for a segmentation's runs, or its last publication, meets no row that another one's run
-- has locked. Some server adds to the name of an index.
IF NOT EXISTS (SELECT 1 FROM sys.indexes AS i
               WHERE i.object_id = OBJECT_ID(N'sqlkmeans.run', N'U') AND i.name LIKE N'ix_run_segmentation%')
    CREATE INDEX ix_run_segmentation ON sqlkmeans.run (segmentation, status, published_at);
GO
