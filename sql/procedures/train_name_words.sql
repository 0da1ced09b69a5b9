IF OBJECT_ID(N'sqlkmeans.train_name_words', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_name_words AS RETURN 0;');
GO
-- Gives a segment a name, by the caller's #sqlkmeans_word: the first of those it could have, short ones
-- first, that no row of #sqlkmeans_named has; else the last.
ALTER PROCEDURE sqlkmeans.train_name_words
    @segment_id int,
    @notable    int,
    @name       nvarchar(400) OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @least float = sqlkmeans.shared_number(N'notable');
    DECLARE @other int;
    DECLARE @count int;
    DECLARE @place int = 0;

    CREATE TABLE #sqlkmeans_alike (place int NOT NULL PRIMARY KEY, segment_id int NOT NULL);
    CREATE TABLE #sqlkmeans_chosen (place int NOT NULL PRIMARY KEY, position int NOT NULL);
    CREATE TABLE #sqlkmeans_possible_name
    (
        place int           IDENTITY (1, 1) NOT NULL PRIMARY KEY,
        name  nvarchar(400) COLLATE DATABASE_DEFAULT NOT NULL
    );
    INSERT INTO #sqlkmeans_alike (place, segment_id)
    SELECT ROW_NUMBER() OVER (ORDER BY d.apart, c.size DESC, c.segment_id), c.segment_id
    FROM #sqlkmeans_cluster AS c
    INNER JOIN (
        SELECT o.segment_id,
            ROUND(SUM((a.importance - o.importance) * (a.importance - o.importance)), 9) AS apart
        FROM #sqlkmeans_word AS a
        INNER JOIN #sqlkmeans_word AS o ON o.position = a.position
        WHERE a.segment_id = @segment_id AND o.segment_id > 0 AND o.segment_id <> @segment_id
        GROUP BY o.segment_id
    ) AS d ON d.segment_id = c.segment_id;
    SELECT @other = k.segment_id FROM #sqlkmeans_alike AS k WHERE k.place = 1;

    -- What sets it apart from everyone and from the segment that is most like it.
    INSERT INTO #sqlkmeans_chosen (place, position)
    SELECT r.place, r.position
    FROM (SELECT n.position, ROW_NUMBER() OVER (ORDER BY n.strength DESC, n.is_low, n.position) AS place
          FROM (SELECT a.position, a.is_low, a.importance, s.strength,
                    ROW_NUMBER() OVER (PARTITION BY a.[column]
                                       ORDER BY s.strength DESC, a.is_low, a.position) AS n
                FROM #sqlkmeans_word AS a
                LEFT JOIN #sqlkmeans_word AS o ON o.segment_id = @other AND o.position = a.position
                CROSS APPLY (SELECT ROUND(ABS(a.importance)
                    + COALESCE(ABS(a.importance - o.importance), 0e0), 9) AS strength) AS s
                WHERE a.segment_id = @segment_id) AS n
          WHERE n.n = 1 AND ABS(n.importance) >= @least) AS r
    WHERE r.place <= 2;
    SELECT @count = COUNT(*) FROM #sqlkmeans_chosen AS h;

    -- A word more for each segment that these do not tell it from.
    WHILE @count BETWEEN 1 AND 3 AND EXISTS (SELECT 1 FROM #sqlkmeans_alike AS k WHERE k.place > @place)
    BEGIN
        SET @place = @place + 1;
        SELECT @other = k.segment_id FROM #sqlkmeans_alike AS k WHERE k.place = @place;
        IF NOT EXISTS (SELECT 1
                       FROM #sqlkmeans_chosen AS h
                       INNER JOIN #sqlkmeans_word AS a
                           ON a.segment_id = @segment_id AND a.position = h.position
                       INNER JOIN #sqlkmeans_word AS o
                           ON o.segment_id = @other AND o.position = h.position
                       WHERE a.grade <> o.grade AND ROUND(ABS(a.importance - o.importance), 9) >= @least)
            INSERT INTO #sqlkmeans_chosen (place, position)
            SELECT TOP (1) @count + 1, n.position
            FROM (SELECT a.position, a.[column], a.is_low, a.grade, a.is_level, g.gap,
                      o.grade AS other_grade,
                      ROW_NUMBER() OVER (PARTITION BY a.[column]
                                         ORDER BY g.gap DESC, a.is_low, a.position) AS n
                  FROM #sqlkmeans_word AS a
                  INNER JOIN #sqlkmeans_word AS o ON o.segment_id = @other AND o.position = a.position
                  CROSS APPLY (SELECT ROUND(ABS(a.importance - o.importance), 9) AS gap) AS g
                  WHERE a.segment_id = @segment_id) AS n
            WHERE n.n = 1 AND n.grade <> n.other_grade AND n.gap >= @least
              -- Of a level that is as frequent as in everyone there is nothing to say.
              AND (n.grade <> 0 OR n.is_level = 0)
              AND NOT EXISTS (SELECT 1
                              FROM #sqlkmeans_chosen AS h
                              INNER JOIN #sqlkmeans_word AS w
                                  ON w.segment_id = @segment_id AND w.position = h.position
                              WHERE w.[column] = n.[column])
            ORDER BY n.gap DESC, n.is_low, n.position;
        SELECT @count = COUNT(*) FROM #sqlkmeans_chosen AS h;
    END;

    -- These words, and whatever else is notable, one after the other.
    INSERT INTO #sqlkmeans_chosen (place, position)
    SELECT @count + ROW_NUMBER() OVER (ORDER BY w.place), w.position
    FROM #sqlkmeans_word AS w
    WHERE w.segment_id = @segment_id AND w.place <= @notable
      AND NOT EXISTS (SELECT 1
                      FROM #sqlkmeans_chosen AS h
                      INNER JOIN #sqlkmeans_word AS c
                          ON c.segment_id = @segment_id AND c.position = h.position
                      WHERE c.[column] = w.[column]);
    INSERT INTO #sqlkmeans_possible_name (name)
    SELECT LEFT(COALESCE(NULLIF(sqlkmeans.joined((
        SELECT N', ' + w.word
        FROM #sqlkmeans_chosen AS h
        INNER JOIN #sqlkmeans_word AS w ON w.segment_id = @segment_id AND w.position = h.position
        WHERE h.place <= n.place
        ORDER BY h.place
        FOR XML PATH('')), N', '), N''), N'average'), 390)
    FROM (SELECT @count AS place UNION SELECT h.place FROM #sqlkmeans_chosen AS h WHERE h.place > @count) AS n
    ORDER BY n.place;

    -- What no other segment has as much or as little of.
    INSERT INTO #sqlkmeans_possible_name (name)
    SELECT LEFT(m.most + sqlkmeans.joined((
        SELECT N', ' + w.word
        FROM #sqlkmeans_chosen AS h
        INNER JOIN #sqlkmeans_word AS w ON w.segment_id = @segment_id AND w.position = h.position
        WHERE h.place <= @count AND h.position <> m.position
        ORDER BY h.place
        FOR XML PATH('')), N''), 390)
    FROM #sqlkmeans_word AS m
    WHERE m.segment_id = @segment_id AND m.place IS NOT NULL AND m.most IS NOT NULL
    ORDER BY m.place;

    INSERT INTO #sqlkmeans_possible_name (name)
    SELECT LEFT(sqlkmeans.joined((
        SELECT N', ' + w.mean
        FROM #sqlkmeans_word AS w
        WHERE w.segment_id = @segment_id AND w.place <= 2
        ORDER BY w.place
        FOR XML PATH('')), N', '), 390);

    SELECT TOP (1) @name = c.name
    FROM #sqlkmeans_possible_name AS c
    CROSS APPLY (SELECT CASE WHEN EXISTS (SELECT 1 FROM #sqlkmeans_named AS n WHERE n.name = c.name)
                             THEN 1 ELSE 0 END AS taken) AS t
    ORDER BY t.taken, CASE t.taken WHEN 1 THEN -c.place ELSE c.place END;
END;
GO
