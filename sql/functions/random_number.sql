IF OBJECT_ID(N'sqlkmeans.random_number', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.random_number (@text nvarchar(100)) RETURNS float
        AS BEGIN RETURN 0e0; END;');
GO
-- A number from 0 to below 1 that depends on the text alone: 48 bits of its hash, which a float
-- holds exactly. RAND repeats itself within a statement and differs between servers.
ALTER FUNCTION sqlkmeans.random_number (@text nvarchar(100))
RETURNS float
AS
BEGIN
    RETURN CAST(CAST(SUBSTRING(HASHBYTES('SHA2_256', @text), 1, 6) AS bigint) AS float)
        / 281474976710656e0;
END;
GO
