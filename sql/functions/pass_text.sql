IF OBJECT_ID(N'sqlkmeans.pass_text', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.pass_text (@rows nvarchar(128), @k int, @features int)
        RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- One pass of Lloyd's algorithm (1982): every row of the table @rows goes to its nearest centroid of
-- #sqlkmeans_centroid, and each centroid to the mean of its rows and of those that #sqlkmeans_moved
-- keeps. One without a row moves to the row that is farthest from its own. The text uses variables
-- @k; @shift, the sum of the squared moves, NULL where there was such a centroid; and @inertia, of the
-- centroids as they were (Steiner's theorem spares the distances). It serves all passes.
ALTER FUNCTION sqlkmeans.pass_text
(
    @rows     nvarchar(128),
    @k        int,
    @features int
)
RETURNS nvarchar(max)
AS
BEGIN
    -- Where rows were taken off, a weight of 0 may be a rounding error.
    DECLARE @means nvarchar(max) = N'(SELECT a.cluster, SUM(a.weight) AS weight, SUM(a.squares) AS squares, '
        + sqlkmeans.each_number(@features, N'SUM(a.z{}) / NULLIF(SUM(a.weight), 0e0) AS z{}', N', ') + N'
      FROM #sqlkmeans_moved AS a
      GROUP BY a.cluster
      HAVING SUM(a.weight) > 1e-12 * MAX(a.weight)) AS m';

    RETURN sqlkmeans.centroid_values(@k, @features) + N'DELETE FROM #sqlkmeans_moved WHERE kept = 0;
' + sqlkmeans.sums_text(@rows, @k, @features, 0, N'')
        + N'SELECT @shift = SUM(' + sqlkmeans.each_number(@features,
            N'(m.z{} - (c.z{} - @c0_{})) * (m.z{} - (c.z{} - @c0_{}))', N' + ') + N'),
    @inertia = SUM(m.squares + m.weight * (' + sqlkmeans.each_number(@features,
            N'(c.z{} - @c0_{}) * (c.z{} - @c0_{} - 2e0 * m.z{})', N' + ') + N'))
FROM ' + @means + N'
INNER JOIN #sqlkmeans_centroid AS c ON c.cluster = m.cluster;
UPDATE c
SET ' + sqlkmeans.each_number(@features, N'z{} = @c0_{} + m.z{}', N', ') + N'
FROM #sqlkmeans_centroid AS c
INNER JOIN ' + @means + N' ON m.cluster = c.cluster;
IF @@ROWCOUNT < @k
BEGIN
    SET @shift = NULL;
    UPDATE c
    SET ' + sqlkmeans.each_number(@features, N'z{} = f.z{}', N', ') + N'
    FROM #sqlkmeans_centroid AS c
    INNER JOIN (SELECT o.cluster, ROW_NUMBER() OVER (ORDER BY o.cluster) AS place
                FROM #sqlkmeans_centroid AS o
                WHERE o.cluster > 0 AND NOT EXISTS (SELECT 1 FROM ' + @means + N' WHERE m.cluster = o.cluster)) AS e
        ON e.cluster = c.cluster
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
END;
';
END;
GO
