IF OBJECT_ID(N'sqlkmeans.pass_text', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.pass_text (@rows nvarchar(128), @k int, @features int)
        RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- One pass of Lloyd's algorithm (1982) as one aggregate: every row of the table @rows goes to its
-- nearest centroid of #sqlkmeans_centroid, and each centroid to the mean of its rows. One without a
-- row moves to the row that is farthest from its own. The text uses variables @k; @shift, the sum of
-- the squared moves; and @inertia, of the centroids as they were. The same text serves all passes.
-- On the sample that starts are compared on, sums are added in one order: which start wins would
-- depend on it.
-- Squares are summed about centroid 0, the mean of a sample: what they and the means in #sqlkmeans_moved
-- say of the inertia (Steiner's theorem) spares the distances.
ALTER FUNCTION sqlkmeans.pass_text
(
    @rows     nvarchar(128),
    @k        int,
    @features int
)
RETURNS nvarchar(max)
AS
BEGIN
    DECLARE @z nvarchar(max) = sqlkmeans.each_number(@features, N'z{}', N', ');
    RETURN sqlkmeans.centroid_values(@k, @features) + N'DELETE FROM #sqlkmeans_moved;
INSERT INTO #sqlkmeans_moved (cluster, weight, squares, ' + @z + N')
SELECT n.cluster, SUM(r.[sqlkmeans weight]), SUM(r.[sqlkmeans weight] * ('
        + sqlkmeans.each_number(@features,
            N'(r.[sqlkmeans z{}] - @c0_{}) * (r.[sqlkmeans z{}] - @c0_{})', N' + ') + N')),
    ' + sqlkmeans.each_number(@features,
            N'SUM(r.[sqlkmeans weight] * r.[sqlkmeans z{}]) / SUM(r.[sqlkmeans weight])',
            N', ') + N'
FROM ' + @rows + N' AS r
' + sqlkmeans.nearest(@k, @features, N'r.[sqlkmeans z{}]', 0) + N'
WHERE r.[sqlkmeans weight] > 0e0
GROUP BY n.cluster' + CASE @rows WHEN N'#sqlkmeans_seed' THEN N'
OPTION (MAXDOP 1)' ELSE N'' END + N';
IF (SELECT COUNT(*) FROM #sqlkmeans_moved AS m) < @k
    INSERT INTO #sqlkmeans_moved (cluster, weight, squares, ' + @z + N')
    SELECT e.cluster, 0e0, 0e0, ' + sqlkmeans.each_number(@features, N'f.z{}', N', ') + N'
    FROM (SELECT c.cluster, ROW_NUMBER() OVER (ORDER BY c.cluster) AS place
          FROM #sqlkmeans_centroid AS c
          WHERE c.cluster > 0
            AND NOT EXISTS (SELECT 1 FROM #sqlkmeans_moved AS m WHERE m.cluster = c.cluster)) AS e
    INNER JOIN (SELECT ' + sqlkmeans.each_number(@features, N'd.z{}', N', ') + N',
                    ROW_NUMBER() OVER (ORDER BY d.squared DESC, d.row_number) AS place
                FROM (SELECT ' + sqlkmeans.each_number(@features, N'r.[sqlkmeans z{}] AS z{}', N', ')
        + N', r.[sqlkmeans row] AS row_number, n.squared
                      FROM ' + @rows + N' AS r
                      CROSS APPLY (SELECT TOP (1) ' + sqlkmeans.each_number(@features,
            N'(r.[sqlkmeans z{}] - o.z{}) * (r.[sqlkmeans z{}] - o.z{})', N' + ') + N' AS squared
                                   FROM #sqlkmeans_centroid AS o
                                   WHERE o.cluster > 0
                                   ORDER BY squared) AS n
                      WHERE r.[sqlkmeans weight] > 0e0) AS d) AS f
        ON f.place = e.place;
SELECT @shift = SUM(' + sqlkmeans.each_number(@features,
            N'(m.z{} - c.z{}) * (m.z{} - c.z{})', N' + ') + N'),
    @inertia = SUM(m.squares + m.weight * (' + sqlkmeans.each_number(@features,
            N'(c.z{} - @c0_{}) * (c.z{} - @c0_{} - 2e0 * (m.z{} - @c0_{}))', N' + ') + N'))
FROM #sqlkmeans_moved AS m
INNER JOIN #sqlkmeans_centroid AS c ON c.cluster = m.cluster;
UPDATE c
SET ' + sqlkmeans.each_number(@features, N'z{} = m.z{}', N', ') + N'
FROM #sqlkmeans_centroid AS c
INNER JOIN #sqlkmeans_moved AS m ON m.cluster = c.cluster;
';
END;
GO
