IF OBJECT_ID(N'sqlkmeans.profile_columns', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.profile_columns AS RETURN 0;');
GO
-- Describes the profile columns of a definition for each segment and for everyone, segment 0, and puts
-- them into the publication as its table segment_profile. @labels is a query of key and segment_id. The
-- source is read once more, as the caller: a customer who came since has no label and does not count.
-- Intervals are those of 95 %: Welch (1947) for means, with Student's quantile by Abramowitz and Stegun
-- (1964), 26.7.5, and Newcombe (1998), method 10, for shares; each times the others' share of
-- everyone, of whom a segment is a part.
ALTER PROCEDURE sqlkmeans.profile_columns
    @definition  nvarchar(max),
    @labels      nvarchar(max),
    @medians     bit,
    @publication nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @key nvarchar(max) = JSON_QUERY(@definition, '$.key');
    DECLARE @profile nvarchar(max) = JSON_QUERY(@definition, '$.profile');
    DECLARE @source nvarchar(max);
    DECLARE @problem nvarchar(max);
    DECLARE @today nvarchar(10) = CONVERT(nvarchar(10), CAST(SYSUTCDATETIME() AS date), 112);
    DECLARE @statement nvarchar(max);
    DECLARE @name nvarchar(128);
    DECLARE @type nvarchar(16);
    DECLARE @x nvarchar(40);
    DECLARE @values nvarchar(max) = N'';
    DECLARE @number int = 0;
    DECLARE @position int = 0;
    DECLARE @levels int;
    DECLARE @kept int;
    DECLARE @mean float;
    DECLARE @z float = sqlkmeans.shared_number(N'normal_quantile');
    DECLARE @min_frequency float = sqlkmeans.shared_number(N'min_frequency');
    DECLARE @max_categories int = sqlkmeans.shared_number(N'max_categories');

    IF NOT EXISTS (SELECT 1 FROM OPENJSON(@profile) AS j)
        RETURN 0;

    CREATE TABLE #sqlkmeans_source_column
    (
        position   int           NOT NULL,
        name       nvarchar(128) COLLATE DATABASE_DEFAULT NOT NULL,
        type       nvarchar(128) COLLATE DATABASE_DEFAULT NOT NULL,
        max_length int           NOT NULL,
        [precision] int           NOT NULL,
        scale      int           NOT NULL,
        collation  nvarchar(128) COLLATE DATABASE_DEFAULT NULL,
        base_table  nvarchar(300) COLLATE DATABASE_DEFAULT NULL,
        base_column nvarchar(128) COLLATE DATABASE_DEFAULT NULL,
        masked      bit           NOT NULL
    );
    CREATE TABLE #sqlkmeans_told (segment_id int NOT NULL);
    CREATE TABLE #sqlkmeans_told_level
    (
        level     nvarchar(102) COLLATE Latin1_General_100_BIN2 NOT NULL,
        customers bigint        NOT NULL,
        place     int           NOT NULL
    );
    CREATE TABLE #sqlkmeans_measured
    (
        segment_id      int           NOT NULL,
        position        int           NOT NULL,
        source_column   nvarchar(128) COLLATE DATABASE_DEFAULT NOT NULL,
        type            nvarchar(16)  COLLATE DATABASE_DEFAULT NOT NULL,
        level           nvarchar(400) COLLATE DATABASE_DEFAULT NULL,
        known           bigint        NOT NULL,
        missing         bigint        NOT NULL,
        mean            float         NULL,
        deviation       float         NULL,
        median          float         NULL,
        holding         bigint        NULL,
        difference      float         NULL,
        difference_low  float         NULL,
        difference_high float         NULL
    );

    -- JSON_VALUE gives NULL for a text of more than 4,000 characters.
    SELECT @source = j.source
    FROM OPENJSON(@definition) WITH (source nvarchar(max) '$.source') AS j;
    EXECUTE sqlkmeans.describe_source @source = @source, @problem = @problem OUTPUT;
    EXECUTE sqlkmeans.raise_problems @number = 50003, @problems = @problem;

    -- The columns once, so that all of them are of one moment. A category with one letter more than a
    -- level may have, so that a text that is too long is seen; a date as its age in days.
    SET @statement = N'';
    WHILE EXISTS (SELECT 1 FROM OPENJSON(@profile) AS j WHERE CAST(j.[key] AS int) = @number)
    BEGIN
        SELECT @name = j.[value] FROM OPENJSON(@profile) AS j WHERE CAST(j.[key] AS int) = @number;
        SET @type = NULL;
        SELECT @type = sqlkmeans.profile_type(c.type) FROM #sqlkmeans_source_column AS c WHERE c.name = @name;
        IF @type IS NULL
        BEGIN
            SET @problem = N'profile: ' + @name + N' is not in the source any more, or of another type';
            EXECUTE sqlkmeans.raise_problems @number = 50003, @problems = @problem;
        END;
        SET @number = @number + 1;
        SET @statement = @statement + N'ALTER TABLE #sqlkmeans_told ADD [sqlkmeans p'
            + CAST(@number AS nvarchar(10)) + N'] '
            + CASE @type WHEN N'category' THEN N'nvarchar(101) COLLATE DATABASE_DEFAULT NULL; '
                         ELSE N'float NULL; ' END;
        SET @values = @values + N', ' + CASE @type
            WHEN N'category' THEN N'CAST(s.' + QUOTENAME(@name) + N' AS nvarchar(101))'
            WHEN N'date' THEN N'CAST(DATEDIFF(day, CAST(s.' + QUOTENAME(@name) + N' AS date), '''
                + @today + N''') AS float)'
            WHEN N'boolean' THEN N'CAST(CAST(s.' + QUOTENAME(@name) + N' AS int) AS float)'
            ELSE N'CAST(s.' + QUOTENAME(@name) + N' AS float)' END;
    END;
    -- Columns that are added to a temporary table by a nested batch stay in it.
    EXECUTE sys.sp_executesql @statement;
    SET @statement = N'INSERT INTO #sqlkmeans_told WITH (TABLOCK) (segment_id'
        + sqlkmeans.each_number(@number, N', [sqlkmeans p{}]', N'') + N')
SELECT l.segment_id' + @values + N'
FROM (' + @labels + N') AS l
INNER JOIN ' + sqlkmeans.relation(@source) + N' ON '
        + sqlkmeans.each_name(@key, N's.{} = l.{}', N' AND ') + N';';
    EXECUTE sys.sp_executesql @statement;

    SET @number = 0;
    WHILE EXISTS (SELECT 1 FROM OPENJSON(@profile) AS j WHERE CAST(j.[key] AS int) = @number)
    BEGIN
        SELECT @name = j.[value] FROM OPENJSON(@profile) AS j WHERE CAST(j.[key] AS int) = @number;
        SELECT @type = sqlkmeans.profile_type(c.type) FROM #sqlkmeans_source_column AS c WHERE c.name = @name;
        SET @number = @number + 1;
        SET @position = @position + 1;
        SET @x = N't.[sqlkmeans p' + CAST(@number AS nvarchar(10)) + N']';

        IF @type IN (N'number', N'date')
        BEGIN
            SET @statement = N'SELECT @mean = COALESCE(AVG(' + @x + N'), 0e0) FROM #sqlkmeans_told AS t;';
            EXECUTE sys.sp_executesql @statement, N'@mean float OUTPUT', @mean = @mean OUTPUT;
            -- About everyone's mean: the difference of two large squares would have no digits.
            SET @statement = REPLACE(N'
INSERT INTO #sqlkmeans_measured
    (segment_id, position, source_column, type, known, missing, mean, deviation)
SELECT g.segment_id, @position, @name, @type, g.known, g.customers - g.known, @mean + g.apart,
    CASE WHEN g.squares - g.apart * g.apart > 1e-12 * g.squares
         THEN SQRT(g.squares - g.apart * g.apart) ELSE 0e0 * g.squares END
FROM (SELECT COALESCE(t.segment_id, 0) AS segment_id, COUNT_BIG(*) AS customers,
          COUNT_BIG({}) AS known, AVG({} - @mean) AS apart,
          AVG(({} - @mean) * ({} - @mean)) AS squares
      FROM #sqlkmeans_told AS t
      GROUP BY GROUPING SETS ((t.segment_id), ())) AS g;', N'{}', @x)
                + CASE WHEN @medians = 0 THEN N'' ELSE REPLACE(N'
UPDATE m
SET median = o.median
FROM #sqlkmeans_measured AS m
INNER JOIN (SELECT p.segment_id, AVG(p.value) AS median
            FROM (SELECT g.segment_id, {} AS value,
                      ROW_NUMBER() OVER (PARTITION BY g.segment_id ORDER BY {}) AS place
                  FROM #sqlkmeans_told AS t
                  CROSS APPLY (VALUES (0), (t.segment_id)) AS g (segment_id)
                  WHERE {} IS NOT NULL) AS p
            INNER JOIN #sqlkmeans_measured AS n
                ON n.segment_id = p.segment_id AND n.position = @position
               AND p.place BETWEEN (n.known + 1) / 2 AND (n.known + 2) / 2
            GROUP BY p.segment_id) AS o
    ON o.segment_id = m.segment_id
WHERE m.position = @position;', N'{}', @x) END;
            EXECUTE sys.sp_executesql @statement,
                N'@position int, @name nvarchar(128), @type nvarchar(16), @mean float',
                @position = @position, @name = @name, @type = @type, @mean = @mean;
            CONTINUE;
        END;
        IF @type = N'boolean'
        BEGIN
            SET @statement = REPLACE(N'
INSERT INTO #sqlkmeans_measured
    (segment_id, position, source_column, type, level, known, missing, holding)
SELECT COALESCE(t.segment_id, 0), @position, @name, @type, N''yes'', COUNT_BIG({}),
    COUNT_BIG(*) - COUNT_BIG({}), COUNT_BIG(CASE {} WHEN 1e0 THEN 1 END)
FROM #sqlkmeans_told AS t
GROUP BY GROUPING SETS ((t.segment_id), ());', N'{}', @x);
            EXECUTE sys.sp_executesql @statement,
                N'@position int, @name nvarchar(128), @type nvarchar(16)',
                @position = @position, @name = @name, @type = @type;
            CONTINUE;
        END;

        -- With a full stop behind, blanks at the end count too. Last are levels that have no row of their
        -- own: longer than 100 characters, or called as the rest is.
        DELETE FROM #sqlkmeans_told_level;
        SET @statement = REPLACE(N'
INSERT INTO #sqlkmeans_told_level (level, customers, place)
SELECT g.level, g.customers, ROW_NUMBER() OVER (
    ORDER BY CASE WHEN LEN(g.level) > 101 OR g.level = N''(other).'' THEN 1 ELSE 0 END,
        g.customers DESC, g.level)
FROM (SELECT ({} + N''.'') COLLATE Latin1_General_100_BIN2 AS level, COUNT_BIG(*) AS customers
      FROM #sqlkmeans_told AS t
      WHERE {} IS NOT NULL
      GROUP BY ({} + N''.'') COLLATE Latin1_General_100_BIN2) AS g;', N'{}', @x);
        EXECUTE sys.sp_executesql @statement;
        SELECT @levels = COUNT(*) FROM #sqlkmeans_told_level AS l;
        SELECT @kept = COUNT(*)
        FROM #sqlkmeans_told_level AS l
        CROSS JOIN (SELECT SUM(a.customers) AS customers FROM #sqlkmeans_told_level AS a) AS w
        WHERE LEN(l.level) <= 101 AND l.level <> N'(other).'
          AND l.customers >= @min_frequency * w.customers
          AND l.place <= @max_categories;
        DELETE FROM #sqlkmeans_told_level WHERE place > @kept;
        IF @kept = 0 OR @kept < @levels
            INSERT INTO #sqlkmeans_told_level (level, customers, place) VALUES (N'(other).', 0, @kept + 1);
        SET @statement = REPLACE(N'
INSERT INTO #sqlkmeans_measured
    (segment_id, position, source_column, type, level, known, missing, holding)
SELECT g.segment_id, @position + l.place - 1, @name, @type, LEFT(l.level, LEN(l.level) - 1), g.known,
    g.customers - g.known, COALESCE(h.customers, 0)
FROM (SELECT COALESCE(t.segment_id, 0) AS segment_id, COUNT_BIG(*) AS customers,
          COUNT_BIG({}) AS known
      FROM #sqlkmeans_told AS t
      GROUP BY GROUPING SETS ((t.segment_id), ())) AS g
CROSS JOIN #sqlkmeans_told_level AS l
LEFT JOIN (SELECT COALESCE(v.segment_id, 0) AS segment_id, v.place, COUNT_BIG(*) AS customers
           FROM (SELECT t.segment_id, COALESCE(a.place, @kept + 1) AS place
                 FROM #sqlkmeans_told AS t
                 LEFT JOIN #sqlkmeans_told_level AS a
                     ON a.level = ({} + N''.'') COLLATE Latin1_General_100_BIN2
                    AND a.place <= @kept
                 WHERE {} IS NOT NULL) AS v
           GROUP BY GROUPING SETS ((v.place, v.segment_id), (v.place))) AS h
    ON h.segment_id = g.segment_id AND h.place = l.place;', N'{}', @x);
        EXECUTE sys.sp_executesql @statement,
            N'@position int, @name nvarchar(128), @type nvarchar(16), @kept int',
            @position = @position, @name = @name, @type = @type, @kept = @kept;
        SET @position = @position + (SELECT COUNT(*) FROM #sqlkmeans_told_level AS l) - 1;
    END;

    -- Squares about the means: everyone's are the segment's, the others' and those between the two.
    UPDATE m
    SET difference = CASE WHEN e.deviation = 0 THEN 0e0 ELSE a.apart / e.deviation END,
        difference_low = (a.apart - r.reach) / NULLIF(e.deviation, 0),
        difference_high = (a.apart + r.reach) / NULLIF(e.deviation, 0)
    FROM #sqlkmeans_measured AS m
    INNER JOIN #sqlkmeans_measured AS e ON e.segment_id = 0 AND e.position = m.position
    CROSS APPLY (SELECT m.mean - e.mean AS apart, NULLIF(CAST(m.known AS float), 0) AS n,
                     NULLIF(CAST(e.known AS float), 0) AS everyone, CAST(e.known - m.known AS float) AS rest,
                     m.known * m.deviation * m.deviation AS own) AS a
    CROSS APPLY (SELECT e.known * e.deviation * e.deviation - a.own
                     - a.n * a.everyone / NULLIF(a.rest, 0) * a.apart * a.apart AS squares) AS o
    CROSS APPLY (SELECT a.own / a.n / NULLIF(a.n - 1, 0) AS own,
                     CASE WHEN o.squares > 0 THEN o.squares ELSE 0e0 END
                         / NULLIF(a.rest, 0) / NULLIF(a.rest - 1, 0) AS others) AS p
    CROSS APPLY (SELECT (p.own + p.others) * (p.own + p.others)
                     / NULLIF(p.own * p.own / NULLIF(a.n - 1, 0)
                              + p.others * p.others / NULLIF(a.rest - 1, 0), 0) AS freedom) AS f
    CROSS APPLY (SELECT CASE WHEN p.own + p.others = 0 THEN 0e0
                     ELSE SQRT(p.own + p.others) * a.rest / a.everyone
                         * (@z + 2.372271230298562e0 / f.freedom
                            + 2.8224986157396112e0 / f.freedom / f.freedom
                            + 2.555849679507722e0 / f.freedom / f.freedom / f.freedom
                            + 1.5895340533938225e0 / f.freedom / f.freedom / f.freedom / f.freedom)
                     END AS reach) AS r
    WHERE m.segment_id > 0 AND m.known > 0 AND m.type IN (N'number', N'date');

    UPDATE m
    SET difference = a.share - e.holding / NULLIF(CAST(e.known AS float), 0),
        difference_low = (a.share - o.share - SQRT((a.share - w.low) * (a.share - w.low)
                                                  + (v.high - o.share) * (v.high - o.share)))
            * a.rest / NULLIF(e.known, 0),
        difference_high = (a.share - o.share + SQRT((w.high - a.share) * (w.high - a.share)
                                                   + (o.share - v.low) * (o.share - v.low)))
            * a.rest / NULLIF(e.known, 0)
    FROM #sqlkmeans_measured AS m
    INNER JOIN #sqlkmeans_measured AS e ON e.segment_id = 0 AND e.position = m.position
    CROSS APPLY (SELECT NULLIF(CAST(m.known AS float), 0) AS n,
                     m.holding / NULLIF(CAST(m.known AS float), 0) AS share,
                     NULLIF(CAST(e.known - m.known AS float), 0) AS rest) AS a
    CROSS APPLY (SELECT (e.holding - m.holding) / a.rest AS share) AS o
    CROSS APPLY (SELECT (a.share + @z * @z / 2 / a.n - x.reach) / (1 + @z * @z / a.n) AS low,
                     (a.share + @z * @z / 2 / a.n + x.reach) / (1 + @z * @z / a.n) AS high
                 FROM (SELECT @z * SQRT(a.share * (1 - a.share) / a.n + @z * @z / 4 / a.n / a.n)
                           AS reach) AS x) AS w
    CROSS APPLY (SELECT (o.share + @z * @z / 2 / a.rest - x.reach) / (1 + @z * @z / a.rest) AS low,
                     (o.share + @z * @z / 2 / a.rest + x.reach) / (1 + @z * @z / a.rest) AS high
                 FROM (SELECT @z * SQRT(o.share * (1 - o.share) / a.rest
                                        + @z * @z / 4 / a.rest / a.rest) AS reach) AS x) AS v
    WHERE m.segment_id > 0 AND m.known > 0 AND m.type IN (N'boolean', N'category');

    SET @publication = JSON_MODIFY(@publication, '$.tables.segment_profile', JSON_QUERY((
        SELECT m.segment_id, m.position, m.source_column, m.type, m.level, m.known, m.missing, m.mean,
            m.deviation, m.median, m.holding / NULLIF(CAST(m.known AS float), 0) AS share,
            m.difference, m.difference_low, m.difference_high
        FROM #sqlkmeans_measured AS m
        FOR JSON PATH)));
END;
GO
