-- Version 4: the index of sqlkmeans.run, which sql/tables makes on every database.
IF NOT EXISTS (SELECT 1 FROM sqlkmeans.schema_version AS v WHERE v.version = 4)
    INSERT INTO sqlkmeans.schema_version (version, package_version)
    VALUES (4, N'{{version}}');
GO
