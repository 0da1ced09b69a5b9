IF OBJECT_ID(N'sqlkmeans.check_definition', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.check_definition AS RETURN 0;');
GO
-- Checks a definition against the catalogue. Adds a line to @problems for each thing wrong, and
-- gives the key columns with their types, as CREATE TABLE writes them. With @key_types, a list of
-- theirs, the source is somewhere else: of it nothing is looked at but these.
ALTER PROCEDURE sqlkmeans.check_definition
    @segmentation nvarchar(128),
    @definition   nvarchar(max),
    @problems     nvarchar(max) OUTPUT,
    @key_columns  nvarchar(max) OUTPUT,
    @key_types    nvarchar(max) = NULL
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @source nvarchar(max) = JSON_VALUE(@definition, '$.source');
    DECLARE @target nvarchar(1000) = JSON_VALUE(@definition, '$.target');
    DECLARE @key nvarchar(max) = JSON_QUERY(@definition, '$.key');
    DECLARE @table nvarchar(1000) = sqlkmeans.quoted_name(@source, N'');
    DECLARE @target_name nvarchar(1000) = sqlkmeans.quoted_name(@target, N'');
    DECLARE @problem nvarchar(max);
    DECLARE @name nvarchar(128);
    DECLARE @type nvarchar(400);
    DECLARE @given nvarchar(400);
    DECLARE @length int;
    DECLARE @kind nvarchar(16);
    DECLARE @sample_weight nvarchar(128);
    DECLARE @changed_by nvarchar(128);
    DECLARE @position int = 0;
    DECLARE @bytes int = 0;

    SET @problems = COALESCE(@problems, N'');
    SET @key_columns = N'';

    -- JSON_VALUE gives NULL for a text of more than 4,000 characters.
    SELECT @source = COALESCE(@source, j.source), @sample_weight = j.sample_weight,
        @changed_by = j.changed_by
    FROM OPENJSON(@definition) WITH (
        source nvarchar(max) '$.source', sample_weight nvarchar(max) '$.sample_weight',
        changed_by nvarchar(max) '$.changed_by') AS j;

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
    CREATE TABLE #sqlkmeans_finding
    (
        position int IDENTITY (1, 1) NOT NULL PRIMARY KEY,
        finding  nvarchar(max) COLLATE DATABASE_DEFAULT NOT NULL
    );
    CREATE TABLE #sqlkmeans_target_column
    (
        name nvarchar(128) COLLATE DATABASE_DEFAULT NOT NULL,
        type nvarchar(400) COLLATE DATABASE_DEFAULT NULL
    );

    -- A problem in no words: no column is known by name.
    SET @problem = N'';
    IF @key_types IS NULL
        EXECUTE sqlkmeans.describe_source @source = @source, @problem = @problem OUTPUT;
    IF @problem <> N''
        SET @problems = @problems + @problem
            + CASE JSON_VALUE(@definition, '$.engine')
                  WHEN N'spark' THEN N' (engine = "spark": if Spark has it, the client runs it: sqlkmeans run, '
                      + N'sqlkmeans assign)'
                  ELSE N'' END + @line;

    -- Python takes the last of two keys of one name, and the server, now the first and now all.
    INSERT INTO #sqlkmeans_finding (finding)
    SELECT N'definition: ' + d.[key] + N' is there twice'
    FROM (SELECT j.[key] COLLATE Latin1_General_100_BIN2 AS [key] FROM OPENJSON(@definition) AS j
          UNION ALL
          SELECT N'guard.' + j.[key] COLLATE Latin1_General_100_BIN2
          FROM OPENJSON(@definition, '$.guard') AS j
          UNION ALL
          SELECT N'features[' + f.[key] + N'].' + j.[key] COLLATE Latin1_General_100_BIN2
          FROM OPENJSON(@definition, '$.features') AS f
          CROSS APPLY OPENJSON(CASE f.[type] WHEN 5 THEN f.[value] ELSE N'{}' END) AS j) AS d
    GROUP BY d.[key]
    HAVING COUNT(*) > 1;

    EXECUTE sqlkmeans.check_target @target = @target, @problems = @problems OUTPUT;
    IF @target_name = sqlkmeans.quoted_name(@source, N'')
        SET @problems = @problems + N'target: is the source itself' + @line;

    SELECT @name = MIN(g.name)
    FROM sqlkmeans.segmentation AS g
    WHERE g.name <> @segmentation AND sqlkmeans.quoted_name(g.target, N'') = @target_name;
    IF @name IS NOT NULL
        SET @problems = @problems + N'target: ' + @target_name
            + N' is the target of segmentation ' + @name + N'; each needs its own' + @line;

    -- As the owner: a table that the caller cannot see must not be taken for a free name.
    DECLARE @statement nvarchar(max) = N'
        INSERT INTO #sqlkmeans_target_column (name, type)
        SELECT c.name,
            sqlkmeans.type_text(TYPE_NAME(c.system_type_id), c.max_length, c.[precision], c.scale, c.collation_name)
        FROM sys.columns AS c
        WHERE c.object_id = OBJECT_ID(@text);';
    IF @target_name IS NOT NULL
        EXECUTE sqlkmeans.as_owner @statement = @statement, @text = @target_name;

    IF @key IS NULL OR NOT EXISTS (SELECT 1 FROM OPENJSON(@key) AS j)
        SET @problems = @problems + N'key: missing; allowed: one or more columns of the source'
            + @line;

    WHILE EXISTS (SELECT 1 FROM OPENJSON(@key) AS j WHERE CAST(j.[key] AS int) = @position)
    BEGIN
        SELECT @name = j.[value] FROM OPENJSON(@key) AS j WHERE CAST(j.[key] AS int) = @position;
        SET @type = NULL;
        SELECT @bytes = @bytes + c.max_length, @type = COALESCE(
            sqlkmeans.type_text(c.type, c.max_length, c.[precision], c.scale, c.collation), N'')
        FROM #sqlkmeans_source_column AS c
        WHERE c.name = @name;
        IF @key_types IS NOT NULL
        BEGIN
            SET @given = NULL;
            SELECT @given = LEFT(j.[value], 100)
            FROM OPENJSON(@key_types) AS j
            WHERE j.[key] = CAST(@position AS nvarchar(10));
            SET @length = CASE WHEN @given LIKE N'nvarchar([1-9]%)'
                               THEN 2 * TRY_CAST(SUBSTRING(@given, 10, LEN(@given) - 10) AS smallint)
                               WHEN @given LIKE N'varbinary([1-9]%)'
                               THEN TRY_CAST(SUBSTRING(@given, 11, LEN(@given) - 11) AS smallint) END;
            -- Nothing of the caller's text comes into a statement, but for the number.
            SET @type = CASE
                WHEN @given = N'bigint' THEN N'bigint'
                WHEN @given = N'bit' THEN N'bit'
                WHEN @given = N'date' THEN N'date'
                WHEN @given = N'datetime2(6)' THEN N'datetime2(6)'
                WHEN @length NOT BETWEEN 1 AND 900 THEN NULL
                WHEN @given LIKE N'varbinary%' THEN sqlkmeans.type_text(N'varbinary', @length, 0, 0, NULL)
                ELSE sqlkmeans.type_text(N'nvarchar', @length, 0, 0,
                    CAST(DATABASEPROPERTYEX(DB_NAME(), N'Collation') AS nvarchar(128))) END;
            SET @bytes = @bytes + COALESCE(@length, 8);
        END;

        IF LOWER(@name) IN (N'segment_id', N'segment_name', N'distance', N'run_id', N'assigned_at',
                            N'valid_from', N'valid_to', N'cluster', N'departed', N'is_outlier')
            SET @problems = @problems + N'key: ' + @name
                + N' is a column of the segment table itself; give it another name in a view' + @line;
        ELSE IF LOWER(@name) LIKE N'sqlkmeans %'
            SET @problems = @problems + N'key: ' + @name + N' begins as columns of sqlkmeans itself '
                + N'do; give it another name in a view' + @line;
        ELSE IF @type IS NULL AND @key_types IS NOT NULL
            SET @problems = @problems + N'key: ' + @name + N' is ' + COALESCE(@given, N'of no type')
                + N'; allowed where the source is not in this database: bigint, bit, date, datetime2(6), '
                + N'nvarchar(n), varbinary(n); CAST it' + @line;
        ELSE IF @type IS NULL AND @problem IS NULL
            SET @problems = @problems + N'key: the source has no column ' + @name + @line;
        ELSE IF @type = N''
            SET @problems = @problems + N'key: ' + @name + N' is of a type that cannot be a key; '
                + N'CAST it in a view, text to nvarchar(450) at most' + @line;
        -- Where the source cannot be looked at, there is nothing to compare.
        ELSE IF @type IS NOT NULL AND EXISTS (SELECT 1 FROM #sqlkmeans_target_column AS t)
             AND NOT EXISTS (SELECT 1 FROM #sqlkmeans_target_column AS t WHERE t.name = @name AND t.type = @type)
            SET @problems = @problems + N'target: ' + @target_name
                + N' is there already, without a column ' + @name + N' ' + @type
                + N'; choose another target' + @line;

        SET @key_columns = @key_columns + QUOTENAME(@name) + N' ' + COALESCE(@type, N'')
            + N' NOT NULL, ';
        SET @position = @position + 1;
    END;

    IF @bytes > 900
        SET @problems = @problems + N'key: ' + CAST(@bytes AS nvarchar(10))
            + N' bytes wide; allowed: 900, the widest that a clustered index takes' + @line;

    IF EXISTS (SELECT 1 FROM #sqlkmeans_target_column AS t)
       AND ((SELECT COUNT(*) FROM #sqlkmeans_target_column AS t) <> @position + 5
            OR (SELECT COUNT(*) FROM #sqlkmeans_target_column AS t
                WHERE t.name IN (N'segment_id', N'distance', N'is_outlier', N'run_id',
                                 N'assigned_at')) <> 5)
        SET @problems = @problems + N'target: ' + @target_name + N' is there already and is no '
            + N'segment table of this key; choose another target' + @line;

    SET @position = 0;
    WHILE @problem IS NULL
          AND EXISTS (SELECT 1 FROM OPENJSON(@definition, '$.features') AS j
                      WHERE CAST(j.[key] AS int) = @position)
    BEGIN
        SELECT @name = COALESCE(JSON_VALUE(j.[value], '$.column'), N''),
            @kind = COALESCE(JSON_VALUE(j.[value], '$.type'), N'number')
        FROM OPENJSON(@definition, '$.features') AS j
        WHERE CAST(j.[key] AS int) = @position;
        SET @type = NULL;
        SELECT @type = c.type FROM #sqlkmeans_source_column AS c WHERE c.name = @name;
        SET @position = @position + 1;

        IF @type IS NULL
            SET @problems = @problems + N'features: the source has no column ' + @name + @line;
        ELSE IF @kind = N'number' AND @type NOT IN
            (N'bigint', N'int', N'smallint', N'tinyint', N'bit', N'decimal', N'numeric', N'money',
             N'smallmoney', N'float', N'real')
            SET @problems = @problems + N'features: ' + @name + N' is ' + @type
                + N'; allowed: a number or a bit'
                + CASE WHEN @type IN (N'char', N'varchar', N'nchar', N'nvarchar', N'uniqueidentifier')
                       THEN N', or {"column": ' + sqlkmeans.json_text(@name) + N', "type": "category"}'
                       WHEN @type IN (N'date', N'datetime', N'datetime2', N'smalldatetime',
                                      N'datetimeoffset')
                       THEN N', or {"column": ' + sqlkmeans.json_text(@name) + N', "type": "date"}'
                       ELSE N'' END + @line;
        ELSE IF @kind = N'category' AND @type NOT IN
            (N'char', N'varchar', N'nchar', N'nvarchar', N'uniqueidentifier', N'bit', N'tinyint',
             N'smallint', N'int', N'bigint')
            SET @problems = @problems + N'features: ' + @name + N' is ' + @type
                + N'; allowed for a category: text, uniqueidentifier, a bit or an integer' + @line;
        ELSE IF @kind = N'date' AND @type NOT IN
            (N'date', N'datetime', N'datetime2', N'smalldatetime', N'datetimeoffset')
            SET @problems = @problems + N'features: ' + @name + N' is ' + @type
                + N'; allowed for a date: date, datetime, datetime2, smalldatetime, datetimeoffset'
                + @line;
        IF @name = @sample_weight
            SET @problems = @problems + N'sample_weight: ' + @name
                + N' is a feature too; a weight counts customers, it does not measure them' + @line;
    END;

    IF NOT EXISTS (SELECT 1 FROM OPENJSON(@definition, '$.features') AS j)
        SET @problems = @problems + N'features: missing; allowed: one or more columns of the source'
            + @line;

    SET @position = 0;
    WHILE @problem IS NULL
          AND EXISTS (SELECT 1 FROM OPENJSON(@definition, '$.profile') AS j
                      WHERE CAST(j.[key] AS int) = @position)
    BEGIN
        SELECT @name = COALESCE(CASE j.[type] WHEN 1 THEN j.[value] END, N'')
        FROM OPENJSON(@definition, '$.profile') AS j
        WHERE CAST(j.[key] AS int) = @position;
        SET @type = NULL;
        SELECT @type = c.type FROM #sqlkmeans_source_column AS c WHERE c.name = @name;
        SET @position = @position + 1;

        IF @type IS NULL
            SET @problems = @problems + N'profile: the source has no column ' + @name + @line;
        ELSE IF sqlkmeans.profile_type(@type) IS NULL
            SET @problems = @problems + N'profile: ' + @name + N' is ' + @type
                + N', which is not described; allowed: a number, a bit, a date or text' + @line;
        IF EXISTS (SELECT 1 FROM OPENJSON(@key) AS j WHERE j.[value] = @name)
           OR EXISTS (SELECT 1 FROM OPENJSON(@definition, '$.features') AS j
                      WHERE JSON_VALUE(j.[value], '$.column') = @name)
            SET @problems = @problems + N'profile: ' + @name
                + N' is a key or a feature; allowed: columns that are neither' + @line;
        IF EXISTS (SELECT 1 FROM OPENJSON(@definition, '$.profile') AS j
                   WHERE j.[value] = @name AND CAST(j.[key] AS int) < @position - 1)
            SET @problems = @problems + N'profile: ' + @name + N' is named twice' + @line;
    END;
    IF @position > 100
        SET @problems = @problems + N'profile: ' + CAST(@position AS nvarchar(20))
            + N' columns given; allowed: 100' + @line;

    -- As the owner: who reads a view need not see the table behind it, and sees it masked all the same.
    SET @statement = N'
        UPDATE c
        SET masked = 1
        FROM #sqlkmeans_source_column AS c
        INNER JOIN sys.columns AS s
            ON s.object_id = OBJECT_ID(c.base_table) AND s.name COLLATE DATABASE_DEFAULT = c.base_column
        WHERE s.is_masked = 1;';
    EXECUTE sqlkmeans.as_owner @statement = @statement;
    INSERT INTO #sqlkmeans_finding (finding)
    SELECT c.name + N': is masked for you (dynamic data masking), so you would cluster what is not '
        + N'there; GRANT UNMASK to who runs this, or leave it out'
    FROM #sqlkmeans_source_column AS c
    WHERE c.masked = 1
      AND COALESCE(HAS_PERMS_BY_NAME(
              c.base_table, N'OBJECT', N'UNMASK', c.base_column, N'COLUMN'), 0) = 0
      AND COALESCE(HAS_PERMS_BY_NAME(NULL, N'DATABASE', N'UNMASK'), 0) = 0
      AND (c.name IN (@sample_weight, @changed_by)
           OR c.name IN (SELECT j.[value] COLLATE DATABASE_DEFAULT FROM OPENJSON(@key) AS j)
           OR c.name IN (SELECT j.[value] COLLATE DATABASE_DEFAULT
                         FROM OPENJSON(@definition, '$.profile') AS j)
           OR c.name IN (SELECT JSON_VALUE(j.[value], '$.column') COLLATE DATABASE_DEFAULT
                         FROM OPENJSON(@definition, '$.features') AS j));
    SET @position = 0;
    WHILE EXISTS (SELECT 1 FROM #sqlkmeans_finding AS f WHERE f.position > @position)
    BEGIN
        SELECT @position = MIN(f.position) FROM #sqlkmeans_finding AS f WHERE f.position > @position;
        SELECT @problems = @problems + f.finding + @line
        FROM #sqlkmeans_finding AS f
        WHERE f.position = @position;
    END;

    SET @type = NULL;
    IF @changed_by IS NOT NULL AND @problem IS NULL
       AND NOT EXISTS (SELECT 1 FROM #sqlkmeans_source_column AS c WHERE c.name = @changed_by)
    BEGIN
        IF @changed_by <> N'SYS_CHANGE_VERSION' COLLATE Latin1_General_100_BIN2
            SET @problems = @problems + N'changed_by: the source has no column ' + @changed_by
                + @line;
        ELSE IF OBJECT_ID(@table, N'U') IS NULL
             OR DB_ID(COALESCE(PARSENAME(@source, 3), DB_NAME())) <> DB_ID()
            SET @problems = @problems + N'changed_by: SYS_CHANGE_VERSION is Change Tracking of the '
                + N'source, which then has to be a table of this database' + @line;
        -- Looked at by itself, because not every server has that view.
        ELSE IF NOT EXISTS (SELECT 1 FROM sys.change_tracking_tables AS k
                            WHERE k.object_id = OBJECT_ID(@table, N'U'))
            SET @problems = @problems + N'changed_by: Change Tracking is off for ' + @table
                + N'; ALTER DATABASE CURRENT SET CHANGE_TRACKING = ON (CHANGE_RETENTION = 7 DAYS, '
                + N'AUTO_CLEANUP = ON) turns it on for the database, and then ALTER TABLE ' + @table
                + N' ENABLE CHANGE_TRACKING for the table' + @line;
    END;

    SELECT @type = c.type FROM #sqlkmeans_source_column AS c WHERE c.name = @sample_weight;
    IF @sample_weight IS NOT NULL AND @problem IS NULL
    BEGIN
        IF @type IS NULL
            SET @problems = @problems + N'sample_weight: the source has no column '
                + @sample_weight + @line;
        ELSE IF @type NOT IN (N'bigint', N'int', N'smallint', N'tinyint', N'bit', N'decimal',
                              N'numeric', N'money', N'smallmoney', N'float', N'real')
            SET @problems = @problems + N'sample_weight: ' + @sample_weight + N' is ' + @type
                + N'; allowed: a number or a bit' + @line;
        IF EXISTS (SELECT 1 FROM OPENJSON(@key) AS j WHERE j.[value] = @sample_weight)
            SET @problems = @problems + N'sample_weight: ' + @sample_weight
                + N' is the key too; a key identifies, it does not count' + @line;
    END;

    -- A NULL among the words would make all of them NULL, which raise_problems takes for none.
    SET @problems = COALESCE(@problems, N'definition: could not be checked; nothing was changed');
END;
GO
