IF OBJECT_ID(N'sqlkmeans.schema_version', N'U') IS NULL
    CREATE TABLE sqlkmeans.schema_version
    (
        version         int          NOT NULL,
        package_version nvarchar(64) NOT NULL,
        applied_at      datetime2(6) NOT NULL
            CONSTRAINT df_schema_version_applied_at DEFAULT (SYSUTCDATETIME()),
        CONSTRAINT pk_schema_version PRIMARY KEY CLUSTERED (version)
    );
GO
