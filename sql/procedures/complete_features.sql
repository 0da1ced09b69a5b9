IF OBJECT_ID(N'sqlkmeans.complete_features', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.complete_features AS RETURN 0;');
GO
-- Features as a definition holds them: a JSON list of objects, each with every key. Adds a line to
-- @problems for each thing wrong.
ALTER PROCEDURE sqlkmeans.complete_features
    @key      nvarchar(max),
    @features nvarchar(max) OUTPUT,
    @problems nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @given nvarchar(max) = sqlkmeans.name_list(@features);
    DECLARE @list nvarchar(max) = N'';
    DECLARE @position int = 0;
    DECLARE @item nvarchar(max);
    DECLARE @name nvarchar(128);
    DECLARE @type nvarchar(100);
    DECLARE @transform nvarchar(100);
    DECLARE @weight nvarchar(100);
    DECLARE @winsorize nvarchar(max);
    DECLARE @min_frequency nvarchar(100);
    DECLARE @max_categories nvarchar(100);
    DECLARE @unit nvarchar(4000);
    DECLARE @unknown nvarchar(4000);

    IF @given IS NULL
        SET @problems = @problems
            + N'@features: not a list; allowed: a,b or JSON ["a", {"column": "b"}]' + @line;

    -- One at a time: adding up texts over the rows of a SELECT is not the same on every server.
    WHILE EXISTS (SELECT 1 FROM OPENJSON(@given) AS j WHERE CAST(j.[key] AS int) = @position)
    BEGIN
        SELECT @item = CASE j.[type] WHEN 1 THEN N'{"column":' + sqlkmeans.json_text(j.[value]) + N'}'
                                     WHEN 5 THEN j.[value] ELSE N'{}' END
        FROM OPENJSON(@given) AS j
        WHERE CAST(j.[key] AS int) = @position;
        SET @position = @position + 1;

        SELECT @name = COALESCE(j.[column], N''),
            @type = LOWER(COALESCE(j.type, N'number')),
            @transform = LOWER(COALESCE(j.transform, N'none')),
            @weight = COALESCE(j.weight, N'1.0'),
            @winsorize = COALESCE(j.quantiles, j.winsorize),
            @min_frequency = COALESCE(j.min_frequency, N'0.01'),
            @max_categories = COALESCE(j.max_categories, N'20'),
            @unit = LEFT(j.unit, 4000)
        FROM OPENJSON(@item) WITH (
            [column]       nvarchar(max) '$.column',
            type           nvarchar(max) '$.type',
            transform      nvarchar(max) '$.transform',
            weight         nvarchar(max) '$.weight',
            quantiles      nvarchar(max) '$.winsorize' AS JSON,
            winsorize      nvarchar(max) '$.winsorize',
            min_frequency  nvarchar(max) '$.min_frequency',
            max_categories nvarchar(max) '$.max_categories',
            unit           nvarchar(max) '$.unit'
        ) AS j;

        SELECT @unknown = MIN(k.[key])
        FROM OPENJSON(@item) AS k
        WHERE k.[key] NOT IN (N'column', N'type', N'transform', N'weight', N'winsorize',
                              N'min_frequency', N'max_categories', N'unit');
        IF @unknown IS NOT NULL
            SET @problems = @problems + N'@features: unknown key ' + LEFT(@unknown, 200)
                + N'; allowed: column, type, transform, weight, winsorize, min_frequency, '
                + N'max_categories, unit' + @line;
        IF @type NOT IN (N'number', N'category', N'date')
            SET @problems = @problems + N'@features: type ' + @type + N' of ' + @name
                + N' given; allowed: number, category, date' + @line;
        IF @transform NOT IN (N'none', N'log1p')
            SET @problems = @problems + N'@features: transform ' + @transform + N' of ' + @name
                + N' given; allowed: none, log1p' + @line;
        IF COALESCE(TRY_CAST(sqlkmeans.json_number(@weight) AS float), 0) <= 0
            SET @problems = @problems + N'@features: weight ' + @weight + N' of ' + @name
                + N' given; allowed: a number above 0' + @line;
        IF @winsorize IS NOT NULL AND sqlkmeans.quantiles(@winsorize) IS NULL
            SET @problems = @problems + N'@features: winsorize ' + LEFT(@winsorize, 100) + N' of '
                + @name + N' given; allowed: two quantiles, such as [0.01, 0.99]' + @line;
        IF @type = N'category' AND (@transform <> N'none' OR @winsorize IS NOT NULL)
            SET @problems = @problems + N'@features: transform or winsorize of ' + @name
                + N' given; allowed for number and date only' + @line;
        IF COALESCE(TRY_CAST(sqlkmeans.json_number(@min_frequency) AS float), -1) NOT BETWEEN 0 AND 1
            SET @problems = @problems + N'@features: min_frequency ' + @min_frequency + N' of '
                + @name + N' given; allowed: 0 to 1' + @line;
        IF COALESCE(TRY_CAST(@max_categories AS int), 0) NOT BETWEEN 2 AND 100
            SET @problems = @problems + N'@features: max_categories ' + @max_categories + N' of '
                + @name + N' given; allowed: 2 to 100' + @line;
        -- LEN does not count spaces at the end.
        IF LEN(@unit + N'.') NOT BETWEEN 2 AND 21 OR @unit LIKE N' %' OR @unit LIKE N'% '
           OR sqlkmeans.is_visible(@unit) = 0
            SET @problems = @problems + N'@features: unit of ' + @name
                + N' given; allowed: 1 to 20 characters that can be seen, such as NOK' + @line;
        IF @type <> N'number' AND @unit IS NOT NULL
            SET @problems = @problems + N'@features: unit of ' + @name
                + N' given; allowed for number only' + @line;
        IF EXISTS (SELECT 1 FROM OPENJSON(N'[' + @list + N']') AS d
                   WHERE JSON_VALUE(d.[value], '$.column') = @name)
            SET @problems = @problems + N'@features: ' + @name + N' is named twice' + @line;
        IF EXISTS (SELECT 1 FROM OPENJSON(@key) AS j WHERE j.[value] = @name)
            SET @problems = @problems + N'@features: ' + @name
                + N' is the key too; a key identifies, it does not measure' + @line;

        SET @list = @list + CASE WHEN @position > 1 THEN N',' ELSE N'' END
            + N'{"column":' + sqlkmeans.json_text(@name)
            + N',"type":' + sqlkmeans.json_text(@type)
            + N',"transform":' + sqlkmeans.json_text(@transform)
            + N',"weight":' + COALESCE(sqlkmeans.json_number(@weight), N'1.0')
            + N',"winsorize":' + COALESCE(sqlkmeans.quantiles(@winsorize), N'null')
            + N',"min_frequency":' + COALESCE(sqlkmeans.json_number(@min_frequency), N'0.01')
            + N',"max_categories":'
            + COALESCE(CAST(TRY_CAST(@max_categories AS int) AS nvarchar(20)), N'20')
            + N',"unit":' + COALESCE(sqlkmeans.json_text(@unit), N'null') + N'}';
    END;
    SET @features = N'[' + @list + N']';
END;
GO
