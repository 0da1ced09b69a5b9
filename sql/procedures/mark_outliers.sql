IF OBJECT_ID(N'sqlkmeans.mark_outliers', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.mark_outliers AS RETURN 0;');
GO
-- Counts the outliers among the labelled rows of the caller's #sqlkmeans_scored, in its
-- #sqlkmeans_cluster: those beyond the limits that stand there. With @share, the limits are found
-- before: in the middle between the nearest of so large a share of a cluster's rows that are
-- farthest, and the next one before them; the distance of the farthest where the share is no row.
ALTER PROCEDURE sqlkmeans.mark_outliers
    @share float = NULL
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    -- SQL and Python may round the last digit of a distance apart: who is as far as the limit itself
    -- is no outlier.
    IF @share IS NOT NULL
        UPDATE c
        SET outlier_distance = n.distance * sqlkmeans.shared_number(N'outlier_slack')
        FROM #sqlkmeans_cluster AS c
        INNER JOIN (SELECT p.cluster, AVG(p.distance) AS distance
                    FROM (SELECT s.[sqlkmeans cluster] AS cluster, s.[sqlkmeans distance] AS distance,
                              ROW_NUMBER() OVER (PARTITION BY s.[sqlkmeans cluster]
                                                 ORDER BY s.[sqlkmeans distance] DESC) AS place,
                              FLOOR(@share * g.size) AS beyond
                          FROM #sqlkmeans_scored AS s
                          INNER JOIN #sqlkmeans_cluster AS g ON g.cluster = s.[sqlkmeans cluster]) AS p
                    WHERE p.place BETWEEN p.beyond AND p.beyond + 1
                    GROUP BY p.cluster) AS n
            ON n.cluster = c.cluster;

    IF EXISTS (SELECT 1 FROM #sqlkmeans_cluster AS c WHERE c.outlier_distance IS NOT NULL)
        UPDATE c
        SET outliers = COALESCE(n.outliers, 0)
        FROM #sqlkmeans_cluster AS c
        LEFT JOIN (SELECT g.cluster, COUNT_BIG(*) AS outliers
                   FROM #sqlkmeans_scored AS s
                   INNER JOIN #sqlkmeans_cluster AS g ON g.cluster = s.[sqlkmeans cluster]
                   WHERE s.[sqlkmeans distance] > g.outlier_distance
                   GROUP BY g.cluster) AS n
            ON n.cluster = c.cluster;
END;
GO
