-- Runs segmentations. Reads a source with the caller's own permissions.
IF DATABASE_PRINCIPAL_ID(N'sqlkmeans_operator') IS NULL
    CREATE ROLE sqlkmeans_operator;
GO
