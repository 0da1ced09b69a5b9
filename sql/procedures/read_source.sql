IF OBJECT_ID(N'sqlkmeans.read_source', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.read_source AS RETURN 0;');
GO
-- Reads a source as the caller into the caller's table #sqlkmeans_input, which gets the key and the
-- features [sqlkmeans f1], [sqlkmeans f2] … beside its own columns: names that no key has, which
-- check_definition sees to. [sqlkmeans place] counts the keys that differ; it is the caller's to look
-- whether all do. @columns is what Python gets beside row and segment, as a SELECT lists it.
ALTER PROCEDURE sqlkmeans.read_source
    @definition nvarchar(max),
    @staging    nvarchar(200),
    @columns    nvarchar(max) OUTPUT,
    @total      bigint OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @relation nvarchar(max);
    DECLARE @sample_weight nvarchar(128);
    DECLARE @key nvarchar(max) = JSON_QUERY(@definition, '$.key');
    DECLARE @target nvarchar(1000) =
        sqlkmeans.quoted_name(JSON_VALUE(@definition, '$.target'), N'');
    DECLARE @target_id bigint;
    DECLARE @key_columns nvarchar(max);
    DECLARE @added nvarchar(max) = N'';
    DECLARE @names nvarchar(max) = N'';
    DECLARE @values nvarchar(max) = N'';
    DECLARE @statement nvarchar(max);
    DECLARE @feature nvarchar(128);
    DECLARE @type nvarchar(16);
    DECLARE @x nvarchar(10);
    DECLARE @problem nvarchar(max);
    DECLARE @position int = 0;

    SELECT @relation = sqlkmeans.relation(j.source), @sample_weight = j.sample_weight
    FROM OPENJSON(@definition) WITH (
        source nvarchar(max) '$.source', sample_weight nvarchar(max) '$.sample_weight') AS j;

    SET @columns = N'';
    WHILE EXISTS (SELECT 1 FROM OPENJSON(@definition, '$.features') AS j
                  WHERE CAST(j.[key] AS int) = @position)
    BEGIN
        SELECT @feature = JSON_VALUE(j.[value], '$.column'),
            @type = COALESCE(JSON_VALUE(j.[value], '$.type'), N'number')
        FROM OPENJSON(@definition, '$.features') AS j
        WHERE CAST(j.[key] AS int) = @position;
        SET @position = @position + 1;
        SET @x = CAST(@position AS nvarchar(10));
        SET @names = @names + N', [sqlkmeans f' + @x + N']';
        -- What Python reads. A category as hexadecimal UTF-16: half of a surrogate pair would end
        -- the call before the script begins, and trailing blanks might not arrive.
        SET @columns = @columns + N', ' + CASE @type
            WHEN N'category' THEN N'CONVERT(varchar(406), CAST([sqlkmeans f' + @x
                + N'] AS varbinary(202)), 1)'
            ELSE N'[sqlkmeans f' + @x + N']' END + N' AS f' + @x;
        -- A category with one letter more than a level may have, so that a text that is too long
        -- is seen; a date as days since 1970.
        SET @added = @added + N'ALTER TABLE #sqlkmeans_input ADD [sqlkmeans f' + @x + N']'
            + CASE @type WHEN N'category' THEN N' nvarchar(101) COLLATE DATABASE_DEFAULT NULL; '
                         ELSE N' float NULL; ' END;
        SET @values = @values + N', ' + CASE @type
            WHEN N'category' THEN N'CAST(s.' + QUOTENAME(@feature) + N' AS nvarchar(101))'
            WHEN N'date' THEN N'CAST(DATEDIFF(day, ''19700101'', CAST(s.' + QUOTENAME(@feature)
                + N' AS date)) AS float)'
            ELSE N'CAST(s.' + QUOTENAME(@feature) + N' AS float)' END;
    END;
    IF @sample_weight IS NOT NULL
        SET @columns = @columns + N', [sqlkmeans weight] AS sample_weight';

    -- A row of 8,060 bytes holds so many numbers beside a key of 900.
    IF @position > 870
    BEGIN
        SET @problem = N'features: ' + sqlkmeans.number_text(@position)
            + N' given; allowed where the server trains: 870';
        EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problem;
    END;

    -- Columns that are added to a temporary table by a nested batch stay in it. A key may be NULL
    -- here, so that all such rows are told of at once.
    EXECUTE sqlkmeans.describe_key
        @table = @staging, @key = @key, @key_columns = @key_columns OUTPUT,
        @before = N'ALTER TABLE #sqlkmeans_input ADD ', @after = N' NULL; ';
    SET @statement = @key_columns + @added;
    EXECUTE sys.sp_executesql @statement;
    EXECUTE sqlkmeans.store_in_columns @table = N'#sqlkmeans_input';

    -- In key order: restarts depend on the order of rows.
    EXECUTE sqlkmeans.as_owner
        @statement = N'SET @arrived = OBJECT_ID(@text);', @text = @target,
        @arrived = @target_id OUTPUT;
    SET @statement = N'INSERT INTO #sqlkmeans_input WITH (TABLOCK) ([sqlkmeans row], [sqlkmeans place], '
        + sqlkmeans.each_name(@key, N'{}', N', ')
        + N', [sqlkmeans previous], [sqlkmeans before], [sqlkmeans flagged], [sqlkmeans weight]' + @names
        + N') SELECT ROW_NUMBER() OVER (ORDER BY ' + sqlkmeans.each_name(@key, N's.{}', N', ')
        + N'), DENSE_RANK() OVER (ORDER BY ' + sqlkmeans.each_name(@key, N's.{}', N', ')
        + N'), ' + sqlkmeans.each_name(@key, N's.{}', N', ') + N', '
        + CASE WHEN @target_id IS NULL THEN N'NULL, NULL, NULL'
               ELSE N'p.segment_id, p.distance, p.is_outlier' END + N', '
        + COALESCE(N'CAST(s.' + QUOTENAME(@sample_weight) + N' AS float)', N'1e0')
        + @values + N' FROM ' + @relation
        + CASE WHEN @target_id IS NULL THEN N''
               ELSE N' LEFT JOIN ' + @target + N' AS p ON '
                   + sqlkmeans.each_name(@key, N'p.{} = s.{}', N' AND ') END
        + N'; SET @total = ROWCOUNT_BIG();';
    EXECUTE sys.sp_executesql @statement, N'@total bigint OUTPUT', @total = @total OUTPUT;
END;
GO
