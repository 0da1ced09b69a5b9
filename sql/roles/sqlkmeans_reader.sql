-- Reads segmentations, runs, models and segments; publishing adds the segment tables.
IF DATABASE_PRINCIPAL_ID(N'sqlkmeans_reader') IS NULL
    CREATE ROLE sqlkmeans_reader;
GO
