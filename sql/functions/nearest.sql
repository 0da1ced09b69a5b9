IF OBJECT_ID(N'sqlkmeans.nearest', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.nearest (@k int, @features int)
        RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- What follows a row r of prepared features, and gives a row n: cluster, the number of the nearest of
-- the centroids 1 to @k of #sqlkmeans_centroid, the first of several that are equally near. Compared in
-- pairs, a table is read in batches, and each distance is written once; where that would be too long
-- an expression, the centroids are ordered for each row.
ALTER FUNCTION sqlkmeans.nearest (@k int, @features int)
RETURNS nvarchar(max)
AS
BEGIN
    DECLARE @squares nvarchar(max);
    DECLARE @result nvarchar(max);
    DECLARE @one int = 1;
    DECLARE @other int;

    IF sqlkmeans.compares_in_pairs(@k, @features) = 0
    BEGIN
        SET @squares = N'(r.[sqlkmeans z{}] - c.z{}) * (r.[sqlkmeans z{}] - c.z{})';
        RETURN N'CROSS APPLY (SELECT TOP (1) c.cluster, '
            + sqlkmeans.each_number(@features, @squares, N' + ')
            + N' AS squared FROM #sqlkmeans_centroid AS c WHERE c.cluster > 0 ORDER BY squared, c.cluster) AS n';
    END;

    SET @squares = sqlkmeans.each_number(
        @features, N'(r.[sqlkmeans z{}] - @c~_{}) * (r.[sqlkmeans z{}] - @c~_{})', N' + ');
    SET @result = N'CROSS APPLY (SELECT '
        + sqlkmeans.each_number(@k, REPLACE(@squares, N'~', N'{}') + N' AS d{}', N', ') + N') AS d
CROSS APPLY (SELECT CASE';
    -- The first whose distance is none of the later ones' greater.
    WHILE @one < @k
    BEGIN
        SET @other = @one + 1;
        WHILE @other <= @k
        BEGIN
            SET @result = @result + CASE WHEN @other = @one + 1 THEN N' WHEN d.d' ELSE N' AND d.d' END
                + CAST(@one AS nvarchar(10)) + N' <= d.d' + CAST(@other AS nvarchar(10));
            SET @other = @other + 1;
        END;
        SET @result = @result + N' THEN ' + CAST(@one AS nvarchar(10));
        SET @one = @one + 1;
    END;

    RETURN @result + CASE WHEN @k = 1 THEN N' WHEN 1 = 1 THEN 1' ELSE N'' END
        + N' ELSE ' + CAST(@k AS nvarchar(10)) + N' END AS cluster) AS n';
END;
GO
