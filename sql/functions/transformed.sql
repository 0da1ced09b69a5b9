IF OBJECT_ID(N'sqlkmeans.transformed', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.transformed (@value nvarchar(400), @transform nvarchar(16))
        RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- The expression of a transformed value: ln(1 + x) to the last digits near 0 too (Goldberg, 1991,
-- theorem 4), or the value itself.
ALTER FUNCTION sqlkmeans.transformed
(
    @value     nvarchar(400),
    @transform nvarchar(16)
)
RETURNS nvarchar(max)
AS
BEGIN
    IF @transform <> N'log1p'
        RETURN @value;

    RETURN REPLACE(N'CASE WHEN 1e0 + {} = 1e0 THEN {} WHEN {} > -1e0 THEN LOG(1e0 + {}) * ({} '
        + N'/ ((1e0 + {}) - 1e0)) END', N'{}', @value);
END;
GO
