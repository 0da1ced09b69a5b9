IF OBJECT_ID(N'sqlkmeans.train_names', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_names AS RETURN 0;');
GO
-- Fills the caller's #sqlkmeans_named from its #sqlkmeans_cluster and #sqlkmeans_profile: a name and a sentence for everyone and
-- each segment, from what sets it apart. A name that a segment has already stays.
ALTER PROCEDURE sqlkmeans.train_names
    @run_id       bigint,
    @active       bigint,
    @segmentation nvarchar(128)
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @segment_id int = -1;
    DECLARE @name nvarchar(400);
    DECLARE @description nvarchar(max);
    DECLARE @definition nvarchar(max);
    DECLARE @part nvarchar(1000);
    DECLARE @place int;
    DECLARE @count int;
    DECLARE @notable int;
    DECLARE @number int;
    DECLARE @least float = sqlkmeans.shared_number(N'notable');
    DECLARE @strong float = sqlkmeans.shared_number(N'strong');

    -- What a feature is in a segment, in words: high, low, very high, very low.
    CREATE TABLE #sqlkmeans_word
    (
        segment_id int            NOT NULL,
        place      int            NOT NULL,
        importance float          NOT NULL,
        is_level   bit            NOT NULL,
        word       nvarchar(400)  COLLATE DATABASE_DEFAULT NOT NULL,
        mean       nvarchar(1000) COLLATE DATABASE_DEFAULT NOT NULL,
        of_all     nvarchar(100)  COLLATE DATABASE_DEFAULT NOT NULL
    );
    SELECT @definition = r.definition FROM sqlkmeans.run AS r WHERE r.run_id = @run_id;
    INSERT INTO #sqlkmeans_word (segment_id, place, importance, is_level, word, mean, of_all)
    SELECT b.segment_id,
        ROW_NUMBER() OVER (PARTITION BY b.segment_id
                           ORDER BY CASE b.segment_id WHEN 0 THEN 0e0 ELSE b.strength END DESC,
                               b.is_low, b.position),
        b.importance, CASE b.type WHEN N'category' THEN 1 ELSE 0 END,
        CASE WHEN b.type = N'category'
            THEN b.plain + CASE WHEN b.importance > 0 AND b.mean >= 0.5 THEN N' mostly '
                                WHEN b.importance > 0 THEN N' more often '
                                WHEN b.mean < 0.05 THEN N' hardly ever '
                                ELSE N' less often ' END + b.level
        WHEN LOWER(b.plain) = N'age' OR LOWER(b.plain) LIKE N'age %'
            THEN CASE WHEN b.strength >= @strong THEN N'much ' ELSE N'' END
                + CASE b.is_low WHEN 1 THEN N'younger' ELSE N'older' END
        WHEN LOWER(b.plain) = N'recency' OR LOWER(b.plain) LIKE N'recency %'
            THEN CASE WHEN b.strength < @strong THEN N'' WHEN b.is_low = 1 THEN N'very '
                      ELSE N'long ' END
                + CASE b.is_low WHEN 1 THEN N'recent' ELSE N'lapsed' END
        WHEN b.type = N'date'
            THEN b.plain + CASE WHEN b.strength >= @strong THEN N' very' ELSE N'' END
                + CASE b.is_low WHEN 1 THEN N' recently' ELSE N' long ago' END
        ELSE CASE WHEN b.strength >= @strong THEN N'very ' ELSE N'' END
                + CASE b.is_low WHEN 1 THEN N'low ' ELSE N'high ' END + b.plain END,
        CASE b.type
            WHEN N'category' THEN b.source_column + N' is ' + b.level + N' for '
                + COALESCE(CAST(CAST(ROUND(100 * b.mean, 0) AS int) AS nvarchar(10)) + N' %', N'unknown')
            WHEN N'date' THEN b.source_column + N' ' + sqlkmeans.number_text(b.mean) + N' days ago'
            ELSE b.source_column + N' ' + sqlkmeans.number_text(b.mean) + COALESCE(N' ' + b.unit, N'')
            END,
        CASE b.type
            WHEN N'category' THEN COALESCE(
                CAST(CAST(ROUND(100 * b.of_all, 0) AS int) AS nvarchar(10)) + N' %', N'unknown')
            ELSE sqlkmeans.number_text(b.of_all) END
    FROM (SELECT a.*, ROW_NUMBER() OVER (PARTITION BY a.segment_id, a.source_column
                                         ORDER BY a.strength DESC, a.is_low, a.position) AS n
          FROM (SELECT COALESCE(c.segment_id, 0) AS segment_id, p.position, f.source_column, f.type,
                    REPLACE(f.source_column, N'_', N' ') AS plain,
                    COALESCE(f.level, N'other') AS level, u.unit, p.mean, e.mean AS of_all, p.importance,
                    -- Of everyone, a category's most frequent level.
                    CASE WHEN p.cluster > 0 THEN ROUND(ABS(p.importance), 9)
                         WHEN f.type = N'category' THEN p.mean ELSE 0e0 END AS strength,
                    CASE WHEN p.importance < 0 THEN 1 ELSE 0 END AS is_low
                FROM #sqlkmeans_profile AS p
                LEFT JOIN #sqlkmeans_cluster AS c ON c.cluster = p.cluster
                INNER JOIN #sqlkmeans_profile AS e ON e.cluster = 0 AND e.position = p.position
                INNER JOIN sqlkmeans.model_feature AS f
                    ON f.run_id = @run_id AND f.position = p.position
                LEFT JOIN OPENJSON(@definition, '$.features') WITH (
                    [column] nvarchar(128) '$.column', unit nvarchar(20) '$.unit') AS u
                    ON u.[column] = f.source_column) AS a) AS b
    WHERE b.n = 1;
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

    WHILE 1 = 1
    BEGIN
        -- Largest first, as the ids of a first run.
        SET @segment_id = NULL;
        SELECT TOP (1) @segment_id = n.segment_id, @name = n.name
        FROM #sqlkmeans_named AS n
        INNER JOIN #sqlkmeans_cluster AS c ON c.segment_id = n.segment_id
        WHERE n.description = N''
        ORDER BY c.size DESC, c.segment_id;
        IF @segment_id IS NULL
            BREAK;
        SELECT @notable = COUNT(*)
        FROM #sqlkmeans_word AS w
        WHERE w.segment_id = @segment_id AND ABS(w.importance) >= @least;

        -- From short to long: a longer one tells two segments apart that share the short one.
        SET @count = CASE WHEN @notable < 2 THEN @notable ELSE 2 END;
        WHILE @name = N'' AND @count <= @notable + 1
        BEGIN
            SET @place = 0;
            WHILE @place < CASE WHEN @count <= @notable THEN @count ELSE 2 END
            BEGIN
                SET @place = @place + 1;
                SELECT @name = LEFT(@name + CASE WHEN @name = N'' THEN N'' ELSE N', ' END
                    + CASE WHEN @count <= @notable THEN w.word ELSE w.mean END, 390)
                FROM #sqlkmeans_word AS w
                WHERE w.segment_id = @segment_id AND w.place = @place;
            END;
            IF @name = N''
                SET @name = N'average';
            SET @count = @count + 1;
            IF @count <= @notable + 1 AND EXISTS (SELECT 1 FROM #sqlkmeans_named AS n WHERE n.name = @name)
                SET @name = N'';
        END;
        SELECT @part = @name, @number = 1;
        WHILE EXISTS (SELECT 1 FROM #sqlkmeans_named AS n
                      WHERE n.name = @name AND n.segment_id <> @segment_id)
        BEGIN
            SET @number = @number + 1;
            SET @name = @part + N' (' + CAST(@number AS nvarchar(10)) + N')';
        END;

        SELECT @description = COALESCE(
            MAX(CASE w.place WHEN 1 THEN w.mean + N' against ' + w.of_all END)
            + COALESCE(N'; ' + MAX(CASE w.place WHEN 2 THEN w.mean + N' against ' + w.of_all END), N'')
            + COALESCE(N'; ' + MAX(CASE w.place WHEN 3 THEN w.mean + N' against ' + w.of_all END), N'')
            + CASE MIN(CAST(w.is_level AS int)) WHEN 0 THEN N' on average.' ELSE N'.' END,
            N'Near everyone''s average in every feature.')
        FROM #sqlkmeans_word AS w
        WHERE w.segment_id = @segment_id AND w.place <= @notable AND w.place <= 3;
        UPDATE #sqlkmeans_named SET name = @name, description = @description WHERE segment_id = @segment_id;
    END;

    SELECT @description = N'All ' + sqlkmeans.number_text(SUM(c.size)) + N' customers; on average '
    FROM #sqlkmeans_cluster AS c;
    SET @place = 0;
    WHILE EXISTS (SELECT 1 FROM #sqlkmeans_word AS w WHERE w.segment_id = 0 AND w.place > @place)
    BEGIN
        SET @place = @place + 1;
        SELECT @description = @description + CASE @place WHEN 1 THEN N'' ELSE N', ' END + w.mean
        FROM #sqlkmeans_word AS w
        WHERE w.segment_id = 0 AND w.place = @place;
    END;
    INSERT INTO #sqlkmeans_named (segment_id, name, name_source, description)
    VALUES (0, N'everyone', N'generated', @description + N'.');
END;
GO
