IF OBJECT_ID(N'sqlkmeans.profile_scored', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.profile_scored AS RETURN 0;');
GO
-- Fills the caller's #sqlkmeans_profile from what describe_scored has left: each segment of its
-- #sqlkmeans_cluster and everyone, as segment 0, for every feature in its own units.
ALTER PROCEDURE sqlkmeans.profile_scored
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    INSERT INTO #sqlkmeans_profile
        (segment_id, position, mean, deviation, lowest, median, highest, known, missing)
    SELECT c.segment_id, m.position, p.value + t.rest,
        CASE WHEN m.highest > m.lowest AND t.spread > t.rest * t.rest
                 THEN SQRT(t.spread - t.rest * t.rest)
             WHEN m.known > 0 THEN 0e0 END,
        m.lowest, d.median, m.highest, m.known, c.size - m.known
    FROM #sqlkmeans_moment AS m
    INNER JOIN #sqlkmeans_cluster AS c ON c.cluster = m.cluster
    INNER JOIN #sqlkmeans_point AS p ON p.cluster = m.cluster AND p.position = m.position
    -- Where a segment lacks the feature altogether, AND would not keep it from dividing by 0.
    CROSS APPLY (SELECT m.total / NULLIF(m.known, 0) AS rest,
                     m.squares / NULLIF(m.known, 0) AS spread) AS t
    LEFT JOIN #sqlkmeans_median AS d ON d.cluster = m.cluster AND d.position = m.position;

    -- Means and squares of parts add up to those of the whole (Chan, Golub & LeVeque, 1983).
    INSERT INTO #sqlkmeans_profile
        (segment_id, position, mean, deviation, lowest, median, highest, known, missing)
    SELECT 0, a.position, MAX(a.mean),
        CASE WHEN MAX(a.known) > 0 THEN SQRT(SUM(p.known * (p.deviation * p.deviation
            + (p.mean - a.mean) * (p.mean - a.mean))) / MAX(a.known)) END,
        MIN(p.lowest), MAX(d.median), MAX(p.highest), MAX(a.known), SUM(p.missing)
    FROM #sqlkmeans_profile AS p
    INNER JOIN (SELECT q.position, SUM(q.known) AS known, MAX(b.mean)
                    + SUM(q.known * (q.mean - b.mean)) / NULLIF(SUM(q.known), 0) AS mean
                FROM #sqlkmeans_profile AS q
                INNER JOIN (SELECT o.position, MIN(o.mean) AS mean
                            FROM #sqlkmeans_profile AS o
                            GROUP BY o.position) AS b
                    ON b.position = q.position
                GROUP BY q.position) AS a
        ON a.position = p.position
    LEFT JOIN #sqlkmeans_median AS d ON d.cluster = 0 AND d.position = p.position
    GROUP BY a.position;
END;
GO
