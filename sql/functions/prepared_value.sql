IF OBJECT_ID(N'sqlkmeans.prepared_value', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.prepared_value (@value float, @low float, @high float,
        @transform nvarchar(16)) RETURNS float AS BEGIN RETURN 0e0; END;');
GO
-- A value pulled in to its limits, where it has some, and transformed as sqlkmeans.transformed says:
-- for a few values, where a statement over all rows has the expression.
ALTER FUNCTION sqlkmeans.prepared_value
(
    @value     float,
    @low       float,
    @high      float,
    @transform nvarchar(16)
)
RETURNS float
AS
BEGIN
    SET @value = CASE WHEN @value < @low THEN @low WHEN @value > @high THEN @high ELSE @value END;
    IF @transform <> N'log1p' OR 1e0 + @value = 1e0
        RETURN @value;
    IF @value > -1e0
        RETURN LOG(1e0 + @value) * (@value / ((1e0 + @value) - 1e0));

    RETURN NULL;
END;
GO
