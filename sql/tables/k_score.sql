IF OBJECT_ID(N'sqlkmeans.k_score', N'U') IS NULL
    CREATE TABLE sqlkmeans.k_score
    (
        run_id                bigint NOT NULL,
        k                     int    NOT NULL,
        inertia               float  NOT NULL,
        silhouette            float  NULL,
        simplified_silhouette float  NULL,
        davies_bouldin        float  NULL,
        calinski_harabasz     float  NULL,
        gap                   float  NULL,
        gap_error             float  NULL,
        separation            float  NULL,
        separation_error      float  NULL,
        stability             float  NULL,
        smallest_share        float  NULL,
        recommended           bit    NOT NULL,
        CONSTRAINT pk_k_score PRIMARY KEY CLUSTERED (run_id, k)
    );
GO
