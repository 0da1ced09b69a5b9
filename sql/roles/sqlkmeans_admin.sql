-- Defines, schedules and purges segmentations.
IF DATABASE_PRINCIPAL_ID(N'sqlkmeans_admin') IS NULL
    CREATE ROLE sqlkmeans_admin;
GO
