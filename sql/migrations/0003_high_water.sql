-- Version 3: up to where a run has seen changes of its source.
IF COL_LENGTH(N'sqlkmeans.run', N'high_water') IS NULL
    ALTER TABLE sqlkmeans.run ADD high_water nvarchar(100) NULL;
GO
IF NOT EXISTS (SELECT 1 FROM sqlkmeans.schema_version AS v WHERE v.version = 3)
    INSERT INTO sqlkmeans.schema_version (version, package_version)
    VALUES (3, N'{{version}}');
GO
