IF OBJECT_ID(N'sqlkmeans.nearest', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.nearest (@k int, @features int, @z nvarchar(40), @last bit)
        RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- What follows a row of prepared features, each written as @z has it, and gives a row n: cluster, the
-- number of the nearest of the centroids 1 to @k of #sqlkmeans_centroid, the first of several that
-- are equally near; or a row l with the last of them. Compared in pairs, a table is read in batches;
-- where that would be too long an expression, the centroids are ordered for each row.
ALTER FUNCTION sqlkmeans.nearest
(
    @k        int,
    @features int,
    @z        nvarchar(40),
    @last     bit
)
RETURNS nvarchar(max)
AS
BEGIN
    DECLARE @squares nvarchar(max);
    DECLARE @distance nvarchar(max);
    DECLARE @result nvarchar(max) = N'CROSS APPLY (SELECT CASE';
    DECLARE @name nvarchar(10) = CASE @last WHEN 1 THEN N') AS l' ELSE N') AS n' END;
    DECLARE @one int = 1;
    DECLARE @other int;

    IF sqlkmeans.compares_in_pairs(@k, @features) = 0
    BEGIN
        SET @squares = N'(' + @z + N' - c.z{}) * (' + @z + N' - c.z{})';
        RETURN N'CROSS APPLY (SELECT TOP (1) c.cluster, '
            + sqlkmeans.each_number(@features, @squares, N' + ')
            + N' AS squared FROM #sqlkmeans_centroid AS c WHERE c.cluster > 0 ORDER BY squared, c.cluster'
            + CASE @last WHEN 1 THEN N' DESC' ELSE N'' END + @name;
    END;

    SET @squares = N'(' + @z + N' - @c~_{}) * (' + @z + N' - @c~_{})';
    SET @squares = sqlkmeans.each_number(@features, @squares, N' + ');
    -- The first whose distance is none of the later ones' greater.
    WHILE @one < @k
    BEGIN
        SET @distance = REPLACE(@squares, N'~',
            CAST(CASE @last WHEN 1 THEN @k + 1 - @one ELSE @one END AS nvarchar(10)));
        SET @other = @one + 1;
        WHILE @other <= @k
        BEGIN
            SET @result = @result + CASE WHEN @other = @one + 1 THEN N' WHEN ' ELSE N' AND ' END
                + @distance + N' <= ' + REPLACE(@squares, N'~',
                    CAST(CASE @last WHEN 1 THEN @k + 1 - @other ELSE @other END AS nvarchar(10)));
            SET @other = @other + 1;
        END;
        SET @result = @result + N' THEN '
            + CAST(CASE @last WHEN 1 THEN @k + 1 - @one ELSE @one END AS nvarchar(10));
        SET @one = @one + 1;
    END;

    RETURN @result + CASE WHEN @k = 1 THEN N' WHEN 1 = 1 THEN 1' ELSE N'' END
        + N' ELSE ' + CASE @last WHEN 1 THEN N'1' ELSE CAST(@k AS nvarchar(10)) END
        + N' END AS cluster' + @name;
END;
GO
