-- A migration changes tables that an earlier version made, keeps their data, runs once, and
-- records itself here. sql/tables makes the newest shape, so on a new database there is nothing
-- to change.
IF NOT EXISTS (SELECT 1 FROM sqlkmeans.schema_version AS v WHERE v.version = 1)
    INSERT INTO sqlkmeans.schema_version (version, package_version)
    VALUES (1, N'{{version}}');
GO
