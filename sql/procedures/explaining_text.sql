IF OBJECT_ID(N'sqlkmeans.explaining_text', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.explaining_text AS RETURN 0;');
GO
-- A query that says of one row why it is in its segment and what would move it, as text: a row a
-- feature of a stored model. @scorer is the name of the function that scores a row; values come from
-- parameters, as scoring_text has them. After the rows of feature and centroid, all is the same for
-- every model, and the same as sqlkmeans/tsql/explaining.py writes.
ALTER PROCEDURE sqlkmeans.explaining_text
    @run_id     bigint,
    @scorer     nvarchar(300),
    @parameters nvarchar(max) = NULL OUTPUT,
    @query      nvarchar(max) = NULL OUTPUT
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @run nvarchar(20) = CAST(@run_id AS nvarchar(20));
    DECLARE @values nvarchar(max);
    DECLARE @scaled nvarchar(max);
    DECLARE @arguments nvarchar(max);
    DECLARE @given nvarchar(max);
    DECLARE @changed nvarchar(max);
    DECLARE @columns int;

    EXECUTE sqlkmeans.scoring_text
        @run_id = @run_id, @row = 0, @parameters = @parameters OUTPUT, @values = @values OUTPUT,
        @scaled = @scaled OUTPUT, @arguments = @arguments OUTPUT, @given = @given OUTPUT,
        @changed = @changed OUTPUT, @columns = @columns OUTPUT;

    -- A column is of whole numbers where the least, the greatest and twice the median of every segment
    -- are, and of 0 and 1 where these are everyone's least and greatest.
    SET @query = N'WITH feature AS
(
    SELECT v.position, m.feature, v.given, COALESCE(v.given, m.fill) AS start, v.z, m.low, m.high,
        CASE WHEN m.type = N''date'' THEN CAST(DATEDIFF(day, ''99991231'', m.reference_date) AS float)
             WHEN w.is_whole = 1 AND w.least = 0e0 AND w.most = 1e0 THEN 0e0 END AS least,
        CASE WHEN m.type = N''date'' THEN CAST(DATEDIFF(day, ''00010101'', m.reference_date) AS float)
             WHEN w.is_whole = 1 AND w.least = 0e0 AND w.most = 1e0 THEN 1e0 END AS most,
        CASE m.transform WHEN N''log1p'' THEN 1 ELSE 0 END AS is_log, m.center,
        m.scale / m.weight AS divisor,
        CASE WHEN m.type = N''date'' OR w.is_whole = 1 THEN 1 ELSE 0 END AS is_whole,
        CASE WHEN m.type = N''date'' THEN m.reference_date END AS reference_date,
        CASE WHEN m.type = N''category'' THEN COALESCE(m.level, N''(other)'') END AS level
    FROM (SELECT ' + @values + N') AS o
    ' + @scaled + N'
    CROSS APPLY (VALUES ' + @given + N') AS v (position, given, z)
    INNER JOIN sqlkmeans.model_feature AS m ON m.run_id = ' + @run + N' AND m.position = v.position
    LEFT JOIN (
        SELECT s.position, MIN(s.[min]) AS least, MAX(s.[max]) AS most,
            MIN(CASE WHEN s.[min] = FLOOR(s.[min]) AND s.[max] = FLOOR(s.[max])
                      AND 2e0 * s.median = FLOOR(2e0 * s.median) THEN 1 ELSE 0 END) AS is_whole
        FROM sqlkmeans.segment_feature AS s
        WHERE s.run_id = ' + @run + N'
        GROUP BY s.position
    ) AS w ON w.position = v.position
),
centroid AS
(
    SELECT c.segment_id, c.position, c.scaled_value AS value
    FROM sqlkmeans.centroid AS c
    WHERE c.run_id = ' + @run + N'
),
';
    SET @query = @query + N'distance AS
(
    SELECT c.segment_id, SUM((f.z - c.value) * (f.z - c.value)) AS squared
    FROM feature AS f
    INNER JOIN centroid AS c ON c.position = f.position
    GROUP BY c.segment_id
),
decided AS
(
    SELECT TOP (1) n.segment_id, n.segment_name, d.squared, o.segment_id AS runner_up_id, o.squared AS far
    FROM '
        + @scorer + N'(' + @arguments + N')' + N' AS n
    INNER JOIN distance AS d ON d.segment_id = n.segment_id
    INNER JOIN distance AS o ON o.segment_id <> n.segment_id
    ORDER BY o.squared, o.segment_id
),
compared AS
(
    SELECT f.position, f.feature, f.given, f.start, f.z, f.low, f.high, f.least, f.most, f.is_log,
        f.center, f.divisor, f.is_whole, f.reference_date, f.level, g.segment_id, g.segment_name,
        g.runner_up_id, g.squared, a.value AS own_value,
        (f.z - r.value) * (f.z - r.value) - (f.z - a.value) * (f.z - a.value) AS part
    FROM decided AS g
    CROSS JOIN feature AS f
    INNER JOIN centroid AS a ON a.segment_id = g.segment_id AND a.position = f.position
    INNER JOIN centroid AS r ON r.segment_id = g.runner_up_id AND r.position = f.position
),
nearest AS
(
    SELECT p.position, w.new_value
    FROM compared AS p
    CROSS APPLY (
        SELECT TOP (1) y.new_value
        FROM centroid AS c
        INNER JOIN distance AS d ON d.segment_id = c.segment_id
        CROSS APPLY (SELECT c.value - p.own_value AS apart) AS h
        CROSS APPLY (SELECT CASE
                WHEN ABS(h.apart) > 1e-09 * (SQRT(d.squared) + SQRT(p.squared))
                THEN (d.squared - p.squared) / (2e0 * h.apart) END AS step) AS s
        CROSS APPLY (SELECT (p.z + s.step) * p.divisor + p.center AS t,
                p.divisor * (SQRT(p.squared) + ABS(s.step)) AS far) AS b
        CROSS APPLY (SELECT
                CASE WHEN p.is_log = 0 THEN b.t
                     WHEN b.t BETWEEN -30.0e0 AND 36.0e0
                     THEN CASE WHEN EXP(b.t) = 1e0 THEN b.t
                          ELSE (EXP(b.t) - 1e0) * (b.t / LOG(EXP(b.t))) END END AS border,
                CASE WHEN p.is_log = 0 THEN b.far
                     WHEN b.t BETWEEN -30.0e0 AND 36.0e0
                     THEN b.far * EXP(b.t) END AS way) AS x
        CROSS APPLY (SELECT CASE WHEN p.is_whole = 1 THEN 0e0
                WHEN 0.001e0 * x.way + 1e-10 * ABS(x.border) > 1e-290
                THEN FLOOR(LOG10(0.001e0 * x.way + 1e-10 * ABS(x.border))) END AS power) AS e
        CROSS APPLY (SELECT POWER(10e0, CASE WHEN e.power > 0e0 THEN e.power ELSE 0e0 END) AS unit,
                POWER(10e0, CASE WHEN e.power < 0e0 THEN -e.power ELSE 0e0 END) AS parts) AS u
        CROSS APPLY (SELECT CASE p.is_whole
                WHEN 1 THEN 1e-06 * x.way + 1e-10 * ABS(x.border)
                ELSE 0.001e0 * u.unit / u.parts END AS clear) AS q
        CROSS APPLY (SELECT CASE WHEN h.apart > 0e0
                THEN (FLOOR((x.border + q.clear) / u.unit * u.parts) + 1e0) / u.parts * u.unit
                ELSE (CEILING((x.border - q.clear) / u.unit * u.parts) - 1e0) / u.parts * u.unit
                END AS new_value) AS y
        WHERE c.position = p.position AND c.segment_id <> p.segment_id AND p.level IS NULL
          AND ABS(h.apart) * 1000000.0e0 > SQRT(p.squared) + ABS(s.step)
          AND (p.is_log = 0 OR y.new_value > -1e0)
          AND (p.least IS NULL OR y.new_value BETWEEN p.least AND p.most)
          AND (p.low IS NULL OR (h.apart > 0e0 AND x.border < p.high)
               OR (h.apart < 0e0 AND x.border > p.low))
        ORDER BY ABS(y.new_value - p.start), y.new_value DESC
    ) AS w
),
proposed AS
(
    SELECT p.position, MAX(w.new_value) AS new_value,
        '
        + @changed + N'
    FROM compared AS p
    LEFT JOIN nearest AS w ON w.position = p.position
    WHERE w.new_value IS NOT NULL OR (p.level IS NOT NULL AND p.given = 0e0)
    GROUP BY p.position
)
SELECT p.position, p.feature, p.segment_id, p.segment_name, p.runner_up_id,
    CASE WHEN SUM(p.part) OVER () > 0e0 THEN p.part / SUM(p.part) OVER () ELSE 0e0
        END AS contribution,
    CASE WHEN p.reference_date IS NULL THEN m.new_value END AS new_value,
    DATEADD(day, -CAST(CASE WHEN p.reference_date IS NOT NULL THEN m.new_value END AS int), p.reference_date) AS new_date,
    CASE WHEN m.segment_id IS NOT NULL THEN p.level END AS new_level,
    CASE WHEN p.reference_date IS NULL THEN m.new_value - p.given ELSE p.given - m.new_value
        END AS difference,
    m.segment_id AS new_segment_id, m.segment_name AS new_segment_name
FROM compared AS p
LEFT JOIN (
    SELECT v.position, v.new_value, n.segment_id, n.segment_name
    FROM proposed AS v
    CROSS APPLY '
        + @scorer + N'(' + sqlkmeans.each_number(@columns, N'v.v{}', N', ') + N')' + N' AS n
) AS m ON m.position = p.position AND m.segment_id <> p.segment_id';
END;
GO
