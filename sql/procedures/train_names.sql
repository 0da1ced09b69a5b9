IF OBJECT_ID(N'sqlkmeans.train_names', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_names AS RETURN 0;');
GO
-- Fills the caller's #sqlkmeans_named from its #sqlkmeans_cluster and #sqlkmeans_profile: a name and a
-- sentence for everyone and each segment, as sqlkmeans/clustering/describing/naming.py makes them. A
-- name has the two features that set a segment apart most, from everyone and from the segment that is
-- most like it, and then a word more for each segment that it would not be told from. A name that a
-- segment has already stays.
ALTER PROCEDURE sqlkmeans.train_names
    @run_id       bigint,
    @active       bigint,
    @segmentation nvarchar(128)
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @segment_id int;
    DECLARE @name nvarchar(400);
    DECLARE @description nvarchar(max);
    DECLARE @definition nvarchar(max);
    DECLARE @part nvarchar(1000);
    DECLARE @notable int;
    DECLARE @number int;
    DECLARE @least float = sqlkmeans.shared_number(N'notable');
    DECLARE @strong float = sqlkmeans.shared_number(N'strong');

    -- What a feature is in a segment, in words. Grades go from -2, very low, to 2, very high; places
    -- are those of the features that set a segment apart from everyone, one of each column.
    CREATE TABLE #sqlkmeans_word
    (
        segment_id  int            NOT NULL,
        position    int            NOT NULL,
        [column]    nvarchar(128)  COLLATE DATABASE_DEFAULT NOT NULL,
        place       int            NULL,
        importance  float          NOT NULL,
        is_low      int            NOT NULL,
        grade       int            NOT NULL,
        is_category int            NOT NULL,
        is_level    int            NOT NULL,
        word        nvarchar(400)  COLLATE DATABASE_DEFAULT NOT NULL,
        most        nvarchar(400)  COLLATE DATABASE_DEFAULT NULL,
        mean        nvarchar(1000) COLLATE DATABASE_DEFAULT NOT NULL,
        of_all      nvarchar(100)  COLLATE DATABASE_DEFAULT NOT NULL,
        PRIMARY KEY (segment_id, position)
    );
    SELECT @definition = r.definition FROM sqlkmeans.run AS r WHERE r.run_id = @run_id;
    INSERT INTO #sqlkmeans_word
        (segment_id, position, [column], place, importance, is_low, grade, is_category, is_level, word,
         mean, of_all)
    SELECT b.segment_id, b.position, b.source_column,
        CASE WHEN b.n = 1 THEN SUM(CASE b.n WHEN 1 THEN 1 ELSE 0 END) OVER (
            PARTITION BY b.segment_id
            ORDER BY CASE b.segment_id WHEN 0 THEN 0e0 ELSE b.strength END DESC, b.is_low, b.position
            ROWS UNBOUNDED PRECEDING) END,
        b.importance, b.is_low, b.grade, b.is_category, b.is_level,
        CASE WHEN b.is_level = 1 AND b.is_more = 1 AND b.share >= 0.95e0 THEN b.plain + N': ' + b.shown
        WHEN b.is_level = 1
            THEN b.plain + CASE WHEN b.is_more = 1 AND b.share >= 0.5e0 THEN N' mostly '
                                WHEN b.is_more = 1 THEN N' more often '
                                WHEN b.share < 0.05e0 THEN N' hardly ever '
                                ELSE N' less often ' END + b.shown
        WHEN b.type = N'date' THEN b.plain + b.ago
        WHEN b.grade = 0 THEN N'medium ' + b.plain
        WHEN LOWER(b.plain) = N'age' OR LOWER(b.plain) LIKE N'age %'
            THEN CASE WHEN ABS(b.grade) = 2 THEN N'much ' ELSE N'' END
                + CASE b.is_low WHEN 1 THEN N'younger' ELSE N'older' END
        WHEN LOWER(b.plain) = N'recency' OR LOWER(b.plain) LIKE N'recency %'
            THEN CASE b.grade WHEN -2 THEN N'very recent' WHEN -1 THEN N'recent' WHEN 1 THEN N'lapsed'
                              ELSE N'long lapsed' END
        ELSE CASE WHEN ABS(b.grade) = 2 THEN N'very ' ELSE N'' END
                + CASE b.is_low WHEN 1 THEN N'low ' ELSE N'high ' END + b.plain END,
        CASE b.type
            WHEN N'category' THEN b.source_column + N' is ' + b.shown + N' for '
                + COALESCE(CAST(CAST(ROUND(100 * b.mean, 0) AS int) AS nvarchar(10)) + N' %', N'unknown')
            WHEN N'date' THEN b.source_column + b.ago
            ELSE b.source_column + N' ' + sqlkmeans.number_text(b.mean) + COALESCE(N' ' + b.unit, N'')
            END,
        CASE b.type
            WHEN N'category' THEN COALESCE(
                CAST(CAST(ROUND(100 * b.of_all, 0) AS int) AS nvarchar(10)) + N' %', N'unknown')
            ELSE sqlkmeans.number_text(b.of_all) END
    FROM (SELECT a.*, ROW_NUMBER() OVER (PARTITION BY a.segment_id, a.source_column
                                         ORDER BY a.strength DESC, a.is_low, a.position) AS n,
              CASE a.is_low WHEN 1 THEN -1 ELSE 1 END * (CASE WHEN ABS(a.importance) >= @least THEN 1 ELSE 0 END
                  + CASE WHEN ABS(a.importance) >= @strong THEN 1 ELSE 0 END) AS grade,
              CASE WHEN a.type = N'category' OR a.is_number_of_0_and_1 = 1 THEN 1 ELSE 0 END AS is_level,
              -- A number of 0 and 1 is told by what is more frequent than in everyone.
              CASE WHEN a.is_number_of_0_and_1 = 1 THEN CASE a.is_low WHEN 1 THEN N'no' ELSE N'yes' END
                   WHEN a.is_yes_or_no = 1 THEN CASE a.level WHEN N'1' THEN N'yes' ELSE N'no' END
                   ELSE a.level END AS shown,
              CASE WHEN a.is_number_of_0_and_1 = 1 AND a.is_low = 1 THEN 1e0 - COALESCE(a.mean, 0e0)
                   ELSE COALESCE(a.mean, 0e0) END AS share,
              CASE WHEN a.importance > 0 OR (a.is_number_of_0_and_1 = 1 AND a.is_low = 1) THEN 1
                   ELSE 0 END AS is_more,
              CASE WHEN a.mean < 0 THEN N' in ' + sqlkmeans.number_text(-a.mean) + N' days'
                   ELSE N' ' + sqlkmeans.number_text(a.mean) + N' days ago' END AS ago
          FROM (SELECT COALESCE(c.segment_id, 0) AS segment_id, p.position, f.source_column, f.type,
                    REPLACE(f.source_column, N'_', N' ') AS plain,
                    COALESCE(f.level, N'other') AS level, u.unit COLLATE DATABASE_DEFAULT AS unit, p.mean, e.mean AS of_all, d.importance,
                    -- Of everyone, a category's most frequent level.
                    CASE WHEN p.cluster > 0 THEN ROUND(ABS(d.importance), 9)
                         WHEN f.type = N'category' THEN p.mean ELSE 0e0 END AS strength,
                    CASE WHEN d.importance < 0 THEN 1 ELSE 0 END AS is_low,
                    CASE f.type WHEN N'category' THEN 1 ELSE 0 END AS is_category,
                    CASE WHEN f.type = N'category' AND NOT EXISTS (
                             SELECT 1 FROM sqlkmeans.model_feature AS g
                             WHERE g.run_id = @run_id AND g.source_column = f.source_column
                               AND (g.level IS NULL OR g.level NOT IN (N'0', N'1')))
                         THEN 1 ELSE 0 END AS is_yes_or_no,
                    CASE WHEN f.type = N'number' AND e.lowest = 0e0 AND e.highest = 1e0
                          AND ABS(e.deviation * e.deviation - e.mean * (1e0 - e.mean)) < 1e-9
                         THEN 1 ELSE 0 END AS is_number_of_0_and_1
                FROM #sqlkmeans_profile AS p
                LEFT JOIN #sqlkmeans_cluster AS c ON c.cluster = p.cluster
                INNER JOIN #sqlkmeans_profile AS e ON e.cluster = 0 AND e.position = p.position
                INNER JOIN sqlkmeans.model_feature AS f
                    ON f.run_id = @run_id AND f.position = p.position
                LEFT JOIN OPENJSON(@definition, '$.features') WITH (
                    [column] nvarchar(128) '$.column', unit nvarchar(20) '$.unit') AS u
                    ON u.[column] COLLATE DATABASE_DEFAULT = f.source_column
                CROSS APPLY (SELECT CASE WHEN p.cluster = 0 OR e.deviation = 0 THEN 0e0
                        ELSE COALESCE((p.mean - e.mean) / e.deviation, 0e0) END AS importance) AS d
               ) AS a) AS b;
    UPDATE w
    SET most = CASE WHEN w.importance > o.highest THEN N'highest ' WHEN w.importance < o.lowest THEN N'lowest ' END
        + REPLACE(w.[column], N'_', N' ')
    FROM #sqlkmeans_word AS w
    INNER JOIN sqlkmeans.model_feature AS f ON f.run_id = @run_id AND f.position = w.position
    CROSS APPLY (SELECT MAX(a.importance) AS highest, MIN(a.importance) AS lowest
                 FROM #sqlkmeans_word AS a
                 WHERE a.position = w.position AND a.segment_id > 0 AND a.segment_id <> w.segment_id) AS o
    WHERE w.segment_id > 0 AND w.is_level = 0 AND f.type = N'number';
    INSERT INTO #sqlkmeans_named (segment_id, name, name_source, description)
    SELECT c.segment_id, COALESCE(MAX(g.name), MAX(k.name), N''),
        CASE WHEN MAX(g.name) IS NULL THEN N'generated' ELSE N'given' END, N''
    FROM #sqlkmeans_cluster AS c
    LEFT JOIN (SELECT s.segment_id, MAX(s.name) AS name
               FROM sqlkmeans.segment AS s
               INNER JOIN sqlkmeans.run AS r ON r.run_id = s.run_id
               WHERE r.segmentation = @segmentation AND s.name_source = N'given'
               GROUP BY s.segment_id) AS g
        ON g.segment_id = c.segment_id
    LEFT JOIN sqlkmeans.segment AS k ON k.run_id = @active AND k.segment_id = c.segment_id
    GROUP BY c.segment_id;

    WHILE EXISTS (SELECT 1 FROM #sqlkmeans_named AS n WHERE n.description = N'')
    BEGIN
        -- Largest first, as the ids of a first run.
        SELECT TOP (1) @segment_id = n.segment_id, @name = n.name
        FROM #sqlkmeans_named AS n
        INNER JOIN #sqlkmeans_cluster AS c ON c.segment_id = n.segment_id
        WHERE n.description = N''
        ORDER BY c.size DESC, c.segment_id;
        SELECT @notable = COUNT(*)
        FROM #sqlkmeans_word AS w
        WHERE w.segment_id = @segment_id AND w.place IS NOT NULL AND ABS(w.importance) >= @least;

        IF @name = N''
            EXECUTE sqlkmeans.train_name_words
                @segment_id = @segment_id, @notable = @notable, @name = @name OUTPUT;
        SELECT @part = @name, @number = 1;
        WHILE EXISTS (SELECT 1 FROM #sqlkmeans_named AS n
                      WHERE n.name = @name AND n.segment_id <> @segment_id)
        BEGIN
            SET @number = @number + 1;
            SET @name = @part + N' (' + CAST(@number AS nvarchar(10)) + N')';
        END;

        SET @description = CASE @notable WHEN 0 THEN N'Near everyone''s average in every feature.'
            ELSE sqlkmeans.joined((
                SELECT N'; ' + w.mean + N' against ' + w.of_all
                FROM #sqlkmeans_word AS w
                WHERE w.segment_id = @segment_id AND w.place <= 3 AND w.place <= @notable
                ORDER BY w.place
                FOR XML PATH('')), N'; ')
            + CASE WHEN EXISTS (SELECT 1 FROM #sqlkmeans_word AS w
                                WHERE w.segment_id = @segment_id AND w.place <= 3 AND w.place <= @notable
                                  AND w.is_category = 0)
                   THEN N' on average.' ELSE N'.' END END;
        UPDATE #sqlkmeans_named SET name = @name, description = @description WHERE segment_id = @segment_id;
    END;

    INSERT INTO #sqlkmeans_named (segment_id, name, name_source, description)
    SELECT 0, N'everyone', N'generated', N'All ' + sqlkmeans.number_text(SUM(c.size))
        + N' customers; on average ' + sqlkmeans.joined((
            SELECT N', ' + w.mean
            FROM #sqlkmeans_word AS w
            WHERE w.segment_id = 0 AND w.place IS NOT NULL
            ORDER BY w.place
            FOR XML PATH('')), N', ') + N'.'
    FROM #sqlkmeans_cluster AS c;
END;
GO
