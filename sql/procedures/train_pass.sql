IF OBJECT_ID(N'sqlkmeans.train_pass', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_pass AS RETURN 0;');
GO
-- One pass of Lloyd's algorithm (1982) as one aggregate: every row of the caller's #sqlkmeans_scored, or its
-- #sqlkmeans_sample, goes to its nearest centroid, and each centroid of the caller's #sqlkmeans_centroid to the mean of
-- its rows. One without a row moves to the row that is farthest from its own. Gives the sum of the
-- squared moves, and the inertia of the centroids as they were.
ALTER PROCEDURE sqlkmeans.train_pass
    @sample   bit,
    @features int,
    @shift    float OUTPUT,
    @inertia  float OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @z nvarchar(max) = sqlkmeans.each_number(@features, N'z{}', N', ');
    DECLARE @squared nvarchar(max) = sqlkmeans.each_number(
        @features, N'(r.z{} - c.z{}) * (r.z{} - c.z{})', N' + ');
    -- Centroids are rows, not literals: the statement stays linear in the features, and the same
    -- from pass to pass.
    DECLARE @nearest nvarchar(max) = CASE @sample WHEN 1 THEN N'FROM #sqlkmeans_sample AS r'
                                                ELSE N'FROM #sqlkmeans_scored AS r' END + N'
CROSS APPLY (SELECT TOP (1) c.cluster, ' + @squared + N' AS squared
             FROM #sqlkmeans_centroid AS c ORDER BY squared, c.cluster) AS n
WHERE r.weight > 0e0';
    DECLARE @statement nvarchar(max) = N'
INSERT INTO #sqlkmeans_moved (cluster, inertia, ' + @z + N')
SELECT n.cluster, SUM(r.weight * n.squared), '
        + sqlkmeans.each_number(@features, N'SUM(r.weight * r.z{}) / SUM(r.weight)', N', ') + N'
' + @nearest + N'
GROUP BY n.cluster;';

    DELETE FROM #sqlkmeans_moved;
    EXECUTE sys.sp_executesql @statement;
    SELECT @inertia = SUM(m.inertia) FROM #sqlkmeans_moved AS m;

    IF EXISTS (SELECT 1 FROM #sqlkmeans_centroid AS c
               WHERE NOT EXISTS (SELECT 1 FROM #sqlkmeans_moved AS m WHERE m.cluster = c.cluster))
    BEGIN
        SET @statement = N'
INSERT INTO #sqlkmeans_moved (cluster, inertia, ' + @z + N')
SELECT e.cluster, 0e0, ' + sqlkmeans.each_number(@features, N'f.z{}', N', ') + N'
FROM (SELECT c.cluster, ROW_NUMBER() OVER (ORDER BY c.cluster) AS place
      FROM #sqlkmeans_centroid AS c
      WHERE NOT EXISTS (SELECT 1 FROM #sqlkmeans_moved AS m WHERE m.cluster = c.cluster)) AS e
INNER JOIN (SELECT ' + sqlkmeans.each_number(@features, N'r.z{}', N', ') + N',
                ROW_NUMBER() OVER (ORDER BY n.squared DESC, r.row_number) AS place
            ' + @nearest + N') AS f
    ON f.place = e.place;';
        EXECUTE sys.sp_executesql @statement;
    END;

    SET @statement = N'SELECT @shift = SUM(' + sqlkmeans.each_number(
            @features, N'(m.z{} - c.z{}) * (m.z{} - c.z{})', N' + ') + N')
FROM #sqlkmeans_centroid AS c INNER JOIN #sqlkmeans_moved AS m ON m.cluster = c.cluster;
UPDATE c SET ' + sqlkmeans.each_number(@features, N'z{} = m.z{}', N', ') + N'
FROM #sqlkmeans_centroid AS c INNER JOIN #sqlkmeans_moved AS m ON m.cluster = c.cluster;';
    EXECUTE sys.sp_executesql @statement, N'@shift float OUTPUT', @shift = @shift OUTPUT;
END;
GO
