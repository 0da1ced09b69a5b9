-- Version 2: preparation of categories and dates, explanations, comparison with the run before.
IF COL_LENGTH(N'sqlkmeans.run', N'compared_run_id') IS NULL
    ALTER TABLE sqlkmeans.run ADD compared_run_id bigint NULL;
IF COL_LENGTH(N'sqlkmeans.run', N'psi') IS NULL
    ALTER TABLE sqlkmeans.run ADD psi float NULL;
IF COL_LENGTH(N'sqlkmeans.run', N'centroid_shift') IS NULL
    ALTER TABLE sqlkmeans.run ADD centroid_shift float NULL;
IF COL_LENGTH(N'sqlkmeans.run', N'mean_distance') IS NULL
    ALTER TABLE sqlkmeans.run ADD mean_distance float NULL;
IF COL_LENGTH(N'sqlkmeans.run', N'recommendation') IS NULL
    ALTER TABLE sqlkmeans.run ADD recommendation nvarchar(max) NULL;
IF COL_LENGTH(N'sqlkmeans.model_feature', N'source_column') IS NULL
    ALTER TABLE sqlkmeans.model_feature ADD source_column nvarchar(128) NULL;
IF COL_LENGTH(N'sqlkmeans.model_feature', N'level') IS NULL
    ALTER TABLE sqlkmeans.model_feature ADD level nvarchar(400) NULL;
IF COL_LENGTH(N'sqlkmeans.model_feature', N'low') IS NULL
    ALTER TABLE sqlkmeans.model_feature ADD low float NULL;
IF COL_LENGTH(N'sqlkmeans.model_feature', N'high') IS NULL
    ALTER TABLE sqlkmeans.model_feature ADD high float NULL;
IF COL_LENGTH(N'sqlkmeans.model_feature', N'reference_date') IS NULL
    ALTER TABLE sqlkmeans.model_feature ADD reference_date date NULL;
IF COL_LENGTH(N'sqlkmeans.segment', N'rule') IS NULL
    ALTER TABLE sqlkmeans.segment ADD [rule] nvarchar(max) NULL;
IF COL_LENGTH(N'sqlkmeans.segment', N'rule_precision') IS NULL
    ALTER TABLE sqlkmeans.segment ADD rule_precision float NULL;
IF COL_LENGTH(N'sqlkmeans.segment', N'rule_coverage') IS NULL
    ALTER TABLE sqlkmeans.segment ADD rule_coverage float NULL;
IF COL_LENGTH(N'sqlkmeans.segment', N'silhouette') IS NULL
    ALTER TABLE sqlkmeans.segment ADD silhouette float NULL;
IF COL_LENGTH(N'sqlkmeans.segment', N'centroid_shift') IS NULL
    ALTER TABLE sqlkmeans.segment ADD centroid_shift float NULL;
IF COL_LENGTH(N'sqlkmeans.model_feature', N'type') IS NULL
    ALTER TABLE sqlkmeans.model_feature
        ADD type nvarchar(16) NOT NULL CONSTRAINT df_model_feature_type DEFAULT (N'number');
GO
IF NOT EXISTS (SELECT 1 FROM sqlkmeans.schema_version AS v WHERE v.version = 2)
BEGIN
    UPDATE sqlkmeans.model_feature SET source_column = feature WHERE source_column IS NULL;
    -- Only where they are narrower: a server that cannot alter a column's width can still install.
    IF COL_LENGTH(N'sqlkmeans.model_feature', N'feature') < 800
        EXECUTE (N'ALTER TABLE sqlkmeans.model_feature ALTER COLUMN feature nvarchar(400) NOT NULL;');
    IF COL_LENGTH(N'sqlkmeans.centroid', N'feature') < 800
        EXECUTE (N'ALTER TABLE sqlkmeans.centroid ALTER COLUMN feature nvarchar(400) NOT NULL;');
    IF COL_LENGTH(N'sqlkmeans.segment_feature', N'feature') < 800
        EXECUTE (N'ALTER TABLE sqlkmeans.segment_feature ALTER COLUMN feature nvarchar(400) NOT NULL;');
    ALTER TABLE sqlkmeans.run DROP CONSTRAINT ck_run_kind;
    ALTER TABLE sqlkmeans.run
        ADD CONSTRAINT ck_run_kind CHECK (kind IN (N'fit', N'assign', N'rollback', N'choose_k'));
    ALTER TABLE sqlkmeans.run DROP CONSTRAINT ck_run_status;
    ALTER TABLE sqlkmeans.run ADD CONSTRAINT ck_run_status
        CHECK (status IN (N'running', N'published', N'failed', N'finished'));
    INSERT INTO sqlkmeans.schema_version (version, package_version)
    VALUES (2, N'{{version}}');
END;
GO
