IF OBJECT_ID(N'sqlkmeans.train_start', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_start AS RETURN 0;');
GO
-- Fills the caller's #sqlkmeans_centroid with k rows of its #sqlkmeans_sample: greedy k-means++ (Arthur and
-- Vassilvitskii, 2007), the best of a few candidates each time. A candidate is drawn in proportion
-- to its squared distance from the centroids so far.
ALTER PROCEDURE sqlkmeans.train_start
    @k        int,
    @features int,
    @seed     bigint,
    @start    int
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @z nvarchar(max) = sqlkmeans.each_number(@features, N'z{}', N', ');
    DECLARE @of_sample nvarchar(max) = sqlkmeans.each_number(@features, N's.z{}', N', ');
    DECLARE @squared nvarchar(max) = sqlkmeans.each_number(
        @features, N'(s.z{} - c.z{}) * (s.z{} - c.z{})', N' + ');
    DECLARE @draw nvarchar(max) = N'
INSERT INTO #sqlkmeans_candidate (trial, ' + @z + N')
SELECT d.trial, ' + @of_sample + N'
FROM (SELECT t.trial, t.number * g.total AS place
      FROM #sqlkmeans_draw AS t
      CROSS JOIN (SELECT SUM(s.weight * s.closest) AS total FROM #sqlkmeans_sample AS s) AS g) AS d
INNER JOIN (SELECT ' + @of_sample + N', s.weight * s.closest AS chance,
                SUM(s.weight * s.closest) OVER (ORDER BY s.row_number ROWS UNBOUNDED PRECEDING)
                    AS upto
            FROM #sqlkmeans_sample AS s) AS s
    ON s.upto > d.place AND s.upto - s.chance <= d.place AND s.chance > 0e0;';
    -- Rounding can lead past the last row, or to two rows.
    DECLARE @farthest nvarchar(max) = N'
INSERT INTO #sqlkmeans_candidate (trial, ' + @z + N')
SELECT TOP (1) 1, ' + @of_sample + N' FROM #sqlkmeans_sample AS s WHERE s.weight > 0e0
ORDER BY s.closest DESC, s.row_number;';
    DECLARE @best nvarchar(max) = N'
SELECT TOP (1) @trial = g.trial
FROM (SELECT c.trial, SUM(s.weight * CASE WHEN ' + @squared + N' < s.closest
                                          THEN ' + @squared + N' ELSE s.closest END) AS potential
      FROM #sqlkmeans_sample AS s
      CROSS JOIN #sqlkmeans_candidate AS c
      GROUP BY c.trial) AS g
ORDER BY g.potential, g.trial;';
    DECLARE @take nvarchar(max) = N'
INSERT INTO #sqlkmeans_centroid (cluster, ' + @z + N')
SELECT TOP (1) @cluster, ' + @z + N' FROM #sqlkmeans_candidate WHERE trial = @trial ORDER BY ' + @z + N';
UPDATE s
SET closest = ' + @squared + N'
FROM #sqlkmeans_sample AS s
INNER JOIN #sqlkmeans_centroid AS c ON c.cluster = @cluster
WHERE s.closest > ' + @squared + N' OR @cluster = 0;';
    DECLARE @trials int = 2 + FLOOR(LOG(@k));
    DECLARE @cluster int = 0;
    DECLARE @trial int;

    CREATE TABLE #sqlkmeans_draw (trial int NOT NULL PRIMARY KEY, number float NOT NULL);
    DELETE FROM #sqlkmeans_centroid;
    UPDATE #sqlkmeans_sample SET closest = 1e0;

    WHILE @cluster < @k
    BEGIN
        DELETE FROM #sqlkmeans_draw;
        DELETE FROM #sqlkmeans_candidate;
        SET @trial = 0;
        WHILE @trial < CASE @cluster WHEN 0 THEN 1 ELSE @trials END
        BEGIN
            SET @trial = @trial + 1;
            INSERT INTO #sqlkmeans_draw (trial, number)
            SELECT @trial, sqlkmeans.random_number(CAST(@seed AS nvarchar(20)) + N'|'
                + CAST(@start AS nvarchar(10)) + N'|' + CAST(@cluster AS nvarchar(10)) + N'|'
                + CAST(@trial AS nvarchar(10)));
        END;

        EXECUTE sys.sp_executesql @draw;
        IF NOT EXISTS (SELECT 1 FROM #sqlkmeans_candidate AS c)
            EXECUTE sys.sp_executesql @farthest;
        SET @trial = 1;
        IF @cluster > 0
            EXECUTE sys.sp_executesql @best, N'@trial int OUTPUT', @trial = @trial OUTPUT;
        EXECUTE sys.sp_executesql
            @take, N'@cluster int, @trial int', @cluster = @cluster, @trial = @trial;
        SET @cluster = @cluster + 1;
    END;
END;
GO
