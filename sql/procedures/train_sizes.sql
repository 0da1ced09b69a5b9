IF OBJECT_ID(N'sqlkmeans.train_sizes', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_sizes AS RETURN 0;');
GO
-- Says in the caller's #sqlkmeans_cluster how many rows of its #sqlkmeans_label each cluster has, and how
-- near they are. Raises that one has none.
ALTER PROCEDURE sqlkmeans.train_sizes
    @k int
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @problem nvarchar(max);

    UPDATE c
    SET size = COALESCE(n.size, 0), within_ss = COALESCE(n.within_ss, 0e0),
        inertia = COALESCE(n.inertia, 0e0), weight = COALESCE(n.weight, 0e0),
        distance = COALESCE(n.distance, 0e0)
    FROM #sqlkmeans_cluster AS c
    LEFT JOIN (SELECT l.cluster, COUNT_BIG(*) AS size, SUM(l.distance * l.distance) AS within_ss,
                   SUM(s.weight * l.distance * l.distance) AS inertia, SUM(s.weight) AS weight,
                   AVG(l.distance) AS distance
               FROM #sqlkmeans_label AS l
               INNER JOIN #sqlkmeans_scored AS s ON s.row_number = l.row_number
               GROUP BY l.cluster) AS n
        ON n.cluster = c.cluster;

    IF EXISTS (SELECT 1 FROM #sqlkmeans_cluster AS c WHERE c.size = 0)
    BEGIN
        SET @problem = N'k = ' + CAST(@k AS nvarchar(10))
            + N': a segment stays empty; lower k or add features';
        EXECUTE sqlkmeans.raise_problems @number = 50003, @problems = @problem;
    END;
END;
GO
