IF OBJECT_ID(N'sqlkmeans.complete_guard', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.complete_guard AS RETURN 0;');
GO
-- A guard as a definition holds it, with every key. Adds a line to @problems for each thing wrong.
ALTER PROCEDURE sqlkmeans.complete_guard
    @guard    nvarchar(max) OUTPUT,
    @problems nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @given nvarchar(max) = COALESCE(@guard, N'{}');
    DECLARE @unknown nvarchar(4000);
    DECLARE @position int = 0;
    DECLARE @name nvarchar(40);
    DECLARE @default nvarchar(40);
    DECLARE @value nvarchar(100);
    DECLARE @type int;

    IF ISJSON(@given) = 0 OR LEFT(LTRIM(@given), 1) <> N'{'
    BEGIN
        SET @problems = @problems + N'@guard: ' + LEFT(@given, 200)
            + N' given; allowed: a JSON object, such as {"action": "refuse", "psi": 0.5}' + @line;
        SET @given = N'{}';
    END;

    SELECT @unknown = MIN(j.[key])
    FROM OPENJSON(@given) AS j
    WHERE j.[key] NOT IN (N'action', N'rows', N'moved', N'psi', N'centroid_shift', N'distance',
                          N'silhouette', N'outliers');
    IF @unknown IS NOT NULL
        SET @problems = @problems + N'@guard: unknown key ' + LEFT(@unknown, 200) + N'; allowed: '
            + N'action, rows, moved, psi, centroid_shift, distance, silhouette, outliers' + @line;

    SET @guard = N'';
    WHILE @position < 8
    BEGIN
        SET @position = @position + 1;
        SELECT @name = k.name, @default = k.[default]
        FROM (VALUES (1, N'action', N'warn'), (2, N'rows', N'0.5'), (3, N'moved', N'0.5'),
                     (4, N'psi', N'0.25'), (5, N'centroid_shift', N'1.0'), (6, N'distance', N'0.5'),
                     (7, N'silhouette', N'0.2'), (8, N'outliers', N'0.05')) AS k (position, name, [default])
        WHERE k.position = @position;
        SET @type = NULL;
        SELECT @type = j.[type], @value = COALESCE(LEFT(j.[value], 100), N'null')
        FROM OPENJSON(@given) AS j
        WHERE j.[key] = @name;

        IF @type IS NULL
            SET @value = @default;
        ELSE IF @name = N'action' AND (@type <> 1 OR LOWER(@value) NOT IN (N'warn', N'refuse'))
            SET @problems = @problems + N'@guard: action ' + @value
                + N' given; allowed: warn, refuse' + @line;
        ELSE IF @name <> N'action'
                AND (@type <> 2 OR COALESCE(TRY_CAST(@value AS float), 0) <= 0)
            SET @problems = @problems + N'@guard: ' + @name + N' ' + @value
                + N' given; allowed: a number above 0' + @line;

        SET @guard = @guard + CASE WHEN @position > 1 THEN N',' ELSE N'' END
            + sqlkmeans.json_text(@name) + N':'
            + CASE WHEN @name = N'action' THEN sqlkmeans.json_text(LOWER(@value))
                   ELSE COALESCE(sqlkmeans.json_number(@value), @default) END;
    END;
    SET @guard = N'{' + @guard + N'}';
END;
GO
