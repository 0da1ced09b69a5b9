IF OBJECT_ID(N'sqlkmeans.train_columns', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_columns AS RETURN 0;');
GO
-- Learns from the caller's #sqlkmeans_input how each column of its #sqlkmeans_column is prepared, as the
-- run's rows of model_feature: all columns in one look and, for "standard", a second. Raises every
-- problem of all columns at once. @fitted rows count in the fit.
ALTER PROCEDURE sqlkmeans.train_columns
    @run_id         bigint,
    @definition     nvarchar(max),
    @reference_date date,
    @features       int    OUTPUT,
    @fitted         bigint OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @problems nvarchar(max) = N'';
    DECLARE @scaling nvarchar(16) = JSON_VALUE(@definition, '$.scaling');
    DECLARE @missing nvarchar(16) = JSON_VALUE(@definition, '$.missing');
    DECLARE @key nvarchar(max) = JSON_QUERY(@definition, '$.key');
    DECLARE @weighted bit;
    DECLARE @winsorize nvarchar(max) = sqlkmeans.quantiles(JSON_QUERY(@definition, '$.winsorize'));
    DECLARE @days nvarchar(20) =
        CAST(DATEDIFF(day, '19700101', @reference_date) AS nvarchar(10)) + N'e0';
    DECLARE @number int = 0;
    DECLARE @columns int;
    DECLARE @type nvarchar(16);
    DECLARE @value nvarchar(60);
    DECLARE @whole nvarchar(max) = N'';
    DECLARE @block int;
    DECLARE @values nvarchar(max);
    DECLARE @sums nvarchar(max);
    DECLARE @statement nvarchar(max);
    DECLARE @total bigint;
    DECLARE @weight float;
    DECLARE @squares float;
    DECLARE @kept bigint;
    DECLARE @absent bigint;
    DECLARE @unkeyed bigint;
    DECLARE @differing bigint;

    SELECT @weighted = CASE WHEN j.sample_weight IS NULL THEN 0 ELSE 1 END
    FROM OPENJSON(@definition) WITH (sample_weight nvarchar(max) '$.sample_weight') AS j;
    INSERT INTO #sqlkmeans_column
        (number, x, name, type, feature, transform, weight, value, low_share, high_share, absent, known,
         skipped, usable)
    SELECT f.number, f.x, f.name, f.type, f.feature, COALESCE(JSON_VALUE(f.feature, '$.transform'), N'none'),
        COALESCE(CAST(JSON_VALUE(f.feature, '$.weight') AS float), 1),
        REPLACE(CASE f.type WHEN N'date' THEN N'(' + @days + N' - i.[sqlkmeans f{}])'
                            WHEN N'category' THEN N'CAST(NULL AS float)'
                            ELSE N'i.[sqlkmeans f{}]' END, N'{}', f.x),
        CAST(JSON_VALUE(f.winsorize, '$[0]') AS float), CAST(JSON_VALUE(f.winsorize, '$[1]') AS float), 0, 0, 0, 1
    FROM (SELECT CAST(j.[key] AS int) + 1 AS number, CAST(CAST(j.[key] AS int) + 1 AS nvarchar(10)) AS x,
              JSON_VALUE(j.[value], '$.column') AS name,
              COALESCE(JSON_VALUE(j.[value], '$.type'), N'number') AS type, j.[value] AS feature,
              COALESCE(sqlkmeans.quantiles(JSON_QUERY(j.[value], '$.winsorize')), @winsorize)
                  AS winsorize
          FROM OPENJSON(@definition, '$.features') AS j) AS f;
    SET @columns = ROWCOUNT_BIG();
    IF @missing = N'skip'
        SET @whole = sqlkmeans.each_number(@columns, N' AND i.[sqlkmeans f{}] IS NOT NULL', N'');

    -- Values that count in the fit: t.fit is 1 there. Of 40 columns at a time, because a row of an
    -- aggregate has 8,060 bytes.
    WHILE @number < @columns
    BEGIN
        SET @block = CASE WHEN @columns - @number < 40 THEN @columns - @number ELSE 40 END;
        SET @sums = sqlkmeans.joined((
            SELECT N', ' + REPLACE(REPLACE(N'COUNT_BIG(i.[sqlkmeans f' + c.x + N']) AS a{}, COUNT_BIG(CASE t.fit WHEN 1 THEN ~ END) AS k{},
    MIN(CASE t.fit WHEN 1 THEN ~ END) AS l{}, MAX(CASE t.fit WHEN 1 THEN ~ END) AS h{},
    COUNT_BIG(CASE WHEN t.fit = 1 AND ~ <> FLOOR(~) THEN 1 END) AS p{},
    COUNT_BIG(CASE WHEN t.whole = 1 AND ~ <= -1e0 THEN 1 END) AS u{},
    SUM(CASE WHEN t.fit = 1 AND ~ IS NOT NULL THEN t.w END) AS w{},
    SUM(CASE WHEN t.fit = 1 AND ~ IS NOT NULL THEN t.w * t.w END) AS v{},
    SUM(CASE t.fit WHEN 1 THEN t.w * ~ END) AS m{}', N'~', c.value), N'{}', CAST(c.number - @number AS nvarchar(10)))
            FROM #sqlkmeans_column AS c
            WHERE c.number > @number AND c.number <= @number + @block
            ORDER BY c.number
            FOR XML PATH('')), N'');
        SET @statement = N'SELECT COUNT_BIG(*) AS total, COUNT_BIG(t.fit) AS fitted, COUNT_BIG(t.whole) AS kept,
    SUM(CASE t.fit WHEN 1 THEN t.w END) AS weight, SUM(CASE t.fit WHEN 1 THEN t.w * t.w END) AS squares,
    COUNT_BIG(CASE WHEN t.w IS NULL OR t.w < 0e0 THEN 1 END) AS absent,
    COUNT_BIG(CASE WHEN ' + sqlkmeans.each_name(@key, N'i.{} IS NULL', N' OR ') + N' THEN 1 END)
        + COUNT_BIG(*) - COALESCE(MAX(i.[sqlkmeans place]), 0) AS unkeyed' + @sums + N'
INTO #sqlkmeans_sums
FROM #sqlkmeans_input AS i
CROSS APPLY (SELECT i.[sqlkmeans weight] AS w, CASE WHEN 1 = 1' + @whole + N' THEN 1 END AS whole,
                 CASE WHEN i.[sqlkmeans weight] > 0e0' + @whole + N' THEN 1 END AS fit) AS t;
UPDATE c
SET absent = s.total - v.held, known = v.known, least = v.least, greatest = v.greatest,
    fractions = v.fractions, floors = v.floors, weights = v.weights, squares = v.squares,
    mean = v.total / NULLIF(v.weights, 0e0)
FROM #sqlkmeans_column AS c
CROSS JOIN #sqlkmeans_sums AS s
CROSS APPLY (VALUES ' + sqlkmeans.each_number(@block,
            N'(@number + {}, s.a{}, s.k{}, s.l{}, s.h{}, s.p{}, s.u{}, s.w{}, s.v{}, s.m{})', N', ')
            + N') AS v (number, held, known, least, greatest, fractions, floors, weights, squares, total)
WHERE v.number = c.number;
SELECT @total = s.total, @fitted = s.fitted, @kept = s.kept, @weight = s.weight, @squares = s.squares,
    @absent = s.absent, @unkeyed = s.unkeyed
FROM #sqlkmeans_sums AS s;
DROP TABLE #sqlkmeans_sums;';
        EXECUTE sys.sp_executesql
            @statement, N'@number int, @total bigint OUTPUT, @fitted bigint OUTPUT, @kept bigint OUTPUT,
                @weight float OUTPUT, @squares float OUTPUT, @absent bigint OUTPUT,
                @unkeyed bigint OUTPUT',
            @number = @number, @total = @total OUTPUT, @fitted = @fitted OUTPUT, @kept = @kept OUTPUT,
            @weight = @weight OUTPUT, @squares = @squares OUTPUT,
            @absent = @absent OUTPUT, @unkeyed = @unkeyed OUTPUT;
        SET @number = @number + @block;
    END;

    IF @unkeyed > 0
        EXECUTE sqlkmeans.check_keys @relation = N'#sqlkmeans_input AS s', @key = @key;
    IF @total = 0
        EXECUTE sqlkmeans.raise_problems @number = 50003,
            @problems = N'the source has no rows; nothing was changed';
    IF @absent > 0
        SET @problems = N'sample_weight: ' + CAST(@absent AS nvarchar(20))
            + N' rows are NULL or negative; every weight must be a number, 0 or more' + @line;
    ELSE IF @fitted = 0 AND @kept > 0
        SET @problems = N'sample_weight: no row has a weight above 0' + @line;
    -- What is NULL is told whatever else; what is of no use besides is not looked at further.
    UPDATE c
    SET skipped = CASE @missing WHEN N'skip' THEN c.absent ELSE 0 END,
        usable = CASE WHEN n.known = 0 OR n.almost = 1 OR c.least = c.greatest THEN 0 ELSE 1 END,
        problem = CASE
            WHEN c.absent > 0 AND @missing = N'error' THEN c.name + N': ' + CAST(c.absent AS nvarchar(20))
                + CASE c.absent WHEN 1 THEN N' row is' ELSE N' rows are' END
                + N' NULL and missing = "error"; correct the rows, or set missing to "skip", '
                + N'"mean" or "median"' + @line
            WHEN n.almost = 1 THEN c.name + N': ' + CAST(c.absent AS nvarchar(20)) + N' of '
                + CAST(@total AS nvarchar(20)) + N' rows are NULL, more than 95%; remove it from features' + @line
            ELSE N'' END
            + CASE WHEN @fitted = 0 OR n.almost = 1 THEN N''
                   WHEN n.known = 0
                   THEN c.name + N': every value is NULL, so there is nothing to cluster by' + @line
                   WHEN c.least = c.greatest
                   THEN c.name + N': constant (' + sqlkmeans.number_text(c.least) + N' in all '
                       + CAST(c.known AS nvarchar(20)) + N' rows), so it separates nobody; remove it from features'
                       + @line
                   ELSE N'' END
    FROM #sqlkmeans_column AS c
    CROSS APPLY (SELECT CASE c.type WHEN N'category' THEN 1 ELSE c.known END AS known,
                     CASE WHEN @missing <> N'error' AND c.absent < @total
                           AND @total >= sqlkmeans.shared_number(N'almost_missing_rows')
                           AND c.absent > sqlkmeans.shared_number(N'almost_missing') * @total
                          THEN 1 ELSE 0 END AS almost) AS n;
    IF @kept = 0
        SET @problems = @problems + N'missing = "skip" leaves no row: each of the '
            + CAST(@total AS nvarchar(20)) + N' rows has a NULL in a feature' + @line;

    -- Weights that cannot be used, or no row: nothing can be learnt.
    SET @number = CASE @fitted WHEN 0 THEN @columns ELSE 0 END;
    WHILE @number < @columns
    BEGIN
        SET @number = @number + 1;
        SELECT @type = CASE c.usable WHEN 1 THEN c.type ELSE N'' END, @value = c.value
        FROM #sqlkmeans_column AS c
        WHERE c.number = @number;
        -- A column with so few numbers cannot hold as many different ones.
        IF @type = N'number' AND EXISTS (
            SELECT 1 FROM #sqlkmeans_column AS c
            WHERE c.number = @number AND c.known >= 100 AND c.fractions = 0
              AND c.greatest - c.least >= c.known - 1 AND c.greatest - c.least < 2 * c.known)
        BEGIN
            SET @statement = N'SELECT @differing = COUNT_BIG(DISTINCT ' + @value
                + N') FROM #sqlkmeans_input AS i WHERE i.[sqlkmeans weight] > 0e0' + @whole + N';';
            EXECUTE sys.sp_executesql
                @statement, N'@differing bigint OUTPUT', @differing = @differing OUTPUT;
            UPDATE #sqlkmeans_column
            SET usable = 0, problem = problem + name + N': like a key (' + CAST(known AS nvarchar(20))
                + N' whole numbers, all different), so it identifies and does not measure; '
                + N'remove it from features' + @line
            WHERE number = @number AND known = @differing;
            IF @@ROWCOUNT > 0
                CONTINUE;
        END;
        IF @type IN (N'number', N'date')
            EXECUTE sqlkmeans.train_quantiles
                @number = @number, @whole = @whole, @scaling = @scaling, @missing = @missing,
                @weighted = @weighted, @weight = @weight, @squares = @squares;
    END;

    -- What K-Means will see, about a value in the middle: the difference of two large squares would have
    -- no digits. Where nothing is filled in nothing is NULL; a category's sums are of no use.
    SET @number = CASE WHEN @scaling = N'standard' AND @fitted > 0
                            AND EXISTS (SELECT 1 FROM #sqlkmeans_column AS c WHERE c.type <> N'category')
                       THEN 0 ELSE @columns END;
    WHILE @number < @columns
    BEGIN
        SET @block = CASE WHEN @columns - @number < 40 THEN @columns - @number ELSE 40 END;
        SET @values = sqlkmeans.joined((
            SELECT N', COALESCE(' + CASE c.usable WHEN 1 THEN sqlkmeans.clipped(c.value, c.low, c.high) ELSE N'NULL' END
                + N', ' + COALESCE(sqlkmeans.float_literal(c.fill_value), N'0e0') + N') AS x' + c.x
            FROM #sqlkmeans_column AS c
            WHERE c.number > @number AND c.number <= @number + @block
            FOR XML PATH('')), N', ');
        SET @sums = sqlkmeans.joined((
            SELECT N', ' + REPLACE(REPLACE(N'SUM(t.w * (~)) / SUM(t.w) AS m{}, SUM(t.w * (~) * (~)) / SUM(t.w) AS q{}', N'~',
                sqlkmeans.transformed(N't.x' + c.x, c.transform) + N' - ('
                + COALESCE(sqlkmeans.float_literal(c.origin), N'0e0') + N')'), N'{}', CAST(c.number - @number AS nvarchar(10)))
            FROM #sqlkmeans_column AS c
            WHERE c.number > @number AND c.number <= @number + @block
            FOR XML PATH('')), N', ');
        SET @statement = N'UPDATE c
SET center = c.origin + v.rest, scale = CASE WHEN v.squares > v.rest * v.rest
    THEN SQRT(v.squares - v.rest * v.rest) ELSE 0e0 END
FROM #sqlkmeans_column AS c
CROSS JOIN (SELECT ' + @sums + N'
            FROM #sqlkmeans_input AS i
            CROSS APPLY (SELECT i.[sqlkmeans weight] AS w, ' + @values + N') AS t
            WHERE i.[sqlkmeans weight] > 0e0' + @whole + N') AS s
CROSS APPLY (VALUES ' + sqlkmeans.each_number(@block, N'(@number + {}, s.m{}, s.q{})', N', ') + N') AS v (number, rest, squares)
WHERE v.number = c.number;';
        EXECUTE sys.sp_executesql @statement, N'@number int', @number = @number;
        SET @number = @number + @block;
    END;

    UPDATE #sqlkmeans_column
    SET usable = 0, problem = problem + name + N': scaling = "' + @scaling + N'" cannot scale it, '
        + N'because its ' + CASE @scaling WHEN N'robust' THEN N'interquartile range' ELSE N'deviation' END
        + N' is 0; use another scaling' + @line
    WHERE type <> N'category' AND usable = 1 AND @fitted > 0 AND COALESCE(scale, 0) <= 0;
    SET @number = CASE @fitted WHEN 0 THEN @columns ELSE 0 END;
    WHILE @number < @columns
    BEGIN
        SET @number = @number + 1;
        IF EXISTS (SELECT 1 FROM #sqlkmeans_column AS c
                   WHERE c.number = @number AND c.usable = 1 AND c.type = N'category')
            EXECUTE sqlkmeans.train_category
                @run_id = @run_id, @number = @number, @whole = @whole, @scaling = @scaling, @missing = @missing;
        INSERT INTO sqlkmeans.model_feature
            (run_id, position, feature, transform, weight, center, scale, fill, source_column, type,
             low, high, reference_date)
        SELECT @run_id, 1 + (SELECT COALESCE(MAX(f.position), 0) FROM sqlkmeans.model_feature AS f
                             WHERE f.run_id = @run_id),
            c.name, c.transform, c.weight, c.center, c.scale, c.fill, c.name, c.type, c.low, c.high,
            CASE c.type WHEN N'date' THEN @reference_date END
        FROM #sqlkmeans_column AS c
        WHERE c.number = @number AND c.usable = 1 AND c.type <> N'category';
    END;

    -- Each feature takes two numbers of a row of #sqlkmeans_prepared, and a row has 8,060 bytes: as
    -- many leave room for a key of 900 and what else is in it.
    SELECT @features = COUNT(*) FROM sqlkmeans.model_feature AS f WHERE f.run_id = @run_id;
    SET @problems = @problems + sqlkmeans.joined((
        SELECT N'' + c.problem FROM #sqlkmeans_column AS c ORDER BY c.number FOR XML PATH('')), N'');
    IF @features > 430
        SET @problems = @problems + N'features: ' + CAST(@features AS nvarchar(10))
            + N', each kept level of a category counted; allowed with @engine = N''tsql'': 430; '
            + N'name fewer columns, or lower max_categories' + @line;
    SET @problems = @problems + sqlkmeans.joined((
        SELECT MIN(f.feature) + N': two features would have this name; rename the column or the level' + @line
        FROM sqlkmeans.model_feature AS f
        WHERE f.run_id = @run_id
        GROUP BY f.feature COLLATE Latin1_General_100_BIN2
        HAVING COUNT(*) > 1
        ORDER BY f.feature COLLATE Latin1_General_100_BIN2
        FOR XML PATH('')), N'');
    EXECUTE sqlkmeans.raise_problems @number = 50003, @problems = @problems;
END;
GO
