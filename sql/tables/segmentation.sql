IF OBJECT_ID(N'sqlkmeans.segmentation', N'U') IS NULL
    CREATE TABLE sqlkmeans.segmentation
    (
        name            nvarchar(128) NOT NULL,
        definition      nvarchar(max) NOT NULL,
        target          nvarchar(400) NOT NULL,
        active_run_id   bigint        NULL,
        last_segment_id int           NOT NULL
            CONSTRAINT df_segmentation_last_segment_id DEFAULT (0),
        created_at      datetime2(6)  NOT NULL,
        updated_at      datetime2(6)  NOT NULL,
        CONSTRAINT pk_segmentation PRIMARY KEY CLUSTERED (name)
    );
GO
