IF OBJECT_ID(N'sqlkmeans.profile_text', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.profile_text AS RETURN 0;');
GO
-- How labelled rows are profiled: @kept takes the features in their own units from a row o into
-- #sqlkmeans_scored, and @statement fills #sqlkmeans_profile from there. The median is the middle value, or the mean of
-- the two in the middle; PERCENTILE_CONT is not on every server.
ALTER PROCEDURE sqlkmeans.profile_text
    @run_id    bigint,
    @kept      nvarchar(max) OUTPUT,
    @statement nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @position int = 0;
    DECLARE @x nvarchar(10);
    DECLARE @comma nvarchar(2) = N'';
    DECLARE @each nvarchar(max) = N'CROSS APPLY (VALUES ';

    SET @kept = N'';
    WHILE 1 = 1
    BEGIN
        SELECT @position = MIN(f.position)
        FROM sqlkmeans.model_feature AS f
        WHERE f.run_id = @run_id AND f.position > @position;
        IF @position IS NULL
            BREAK;
        SET @x = CAST(@position AS nvarchar(10));
        SET @kept = @kept + N', o.o' + @x + N' AS [sqlkmeans o' + @x + N']';
        SET @each = @each + @comma + N'(' + @x + N', s.[sqlkmeans o' + @x + N'])';
        SET @comma = N', ';
    END;
    SET @each = @each + N') AS v (position, value)';

    -- The deviation about the mean: STDEVP takes the difference of two sums, which has no digits
    -- left where a column lies far from 0.
    SET @statement = N'INSERT INTO #sqlkmeans_profile
    (segment_id, position, mean, lowest, highest, known, missing)
SELECT COALESCE(s.[sqlkmeans cluster], 0), v.position, AVG(v.value), MIN(v.value), MAX(v.value),
    COUNT_BIG(v.value), COUNT_BIG(*) - COUNT_BIG(v.value)
FROM #sqlkmeans_scored AS s
' + @each + N'
WHERE s.[sqlkmeans cluster] IS NOT NULL
GROUP BY GROUPING SETS ((s.[sqlkmeans cluster], v.position), (v.position));
UPDATE p
SET mean = p.mean + d.rest, deviation = CASE
    WHEN p.highest > p.lowest AND d.squares > d.rest * d.rest THEN SQRT(d.squares - d.rest * d.rest)
    WHEN p.known > 0 THEN 0e0 END
FROM #sqlkmeans_profile AS p
INNER JOIN (
    SELECT k.segment_id, k.position, AVG(v.value - k.mean) AS rest,
        AVG((v.value - k.mean) * (v.value - k.mean)) AS squares
    FROM #sqlkmeans_scored AS s
    ' + @each + N'
    CROSS APPLY (VALUES (0), (s.[sqlkmeans cluster])) AS g (segment_id)
    INNER JOIN #sqlkmeans_profile AS k ON k.segment_id = g.segment_id AND k.position = v.position
    WHERE s.[sqlkmeans cluster] IS NOT NULL
    GROUP BY k.segment_id, k.position
) AS d ON d.segment_id = p.segment_id AND d.position = p.position;
UPDATE p
SET median = m.median
FROM #sqlkmeans_profile AS p
INNER JOIN (
    SELECT r.segment_id, r.position, AVG(r.value) AS median
    FROM (
        SELECT g.segment_id, v.position, v.value,
            ROW_NUMBER() OVER (PARTITION BY g.segment_id, v.position ORDER BY v.value) AS n
        FROM #sqlkmeans_scored AS s
        ' + @each + N'
        CROSS APPLY (VALUES (0), (s.[sqlkmeans cluster])) AS g (segment_id)
        WHERE s.[sqlkmeans cluster] IS NOT NULL AND v.value IS NOT NULL
    ) AS r
    INNER JOIN #sqlkmeans_profile AS k ON k.segment_id = r.segment_id AND k.position = r.position
    WHERE r.n IN ((k.known + 1) / 2, (k.known + 2) / 2)
    GROUP BY r.segment_id, r.position
) AS m ON m.segment_id = p.segment_id AND m.position = p.position;
';
END;
GO
