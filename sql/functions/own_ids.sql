IF OBJECT_ID(N'sqlkmeans.own_ids', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.own_ids (@last int) RETURNS nvarchar(max)
        AS BEGIN RETURN N''''; END;');
GO
-- The JSON list 0, 1, 2 … @last: segment_ids for labels that are staged under their segment ids.
ALTER FUNCTION sqlkmeans.own_ids (@last int)
RETURNS nvarchar(max)
AS
BEGIN
    DECLARE @list nvarchar(max) = N'[0';
    DECLARE @id int = 0;

    WHILE @id < @last
    BEGIN
        SET @id = @id + 1;
        SET @list = @list + N',' + CAST(@id AS nvarchar(10));
    END;

    RETURN @list + N']';
END;
GO
