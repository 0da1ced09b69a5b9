-- Owned by dbo, so that an ownership chain leads from its procedures to its tables.
IF SCHEMA_ID(N'sqlkmeans') IS NULL
    EXECUTE (N'CREATE SCHEMA sqlkmeans AUTHORIZATION dbo;');
GO
