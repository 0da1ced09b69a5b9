IF OBJECT_ID(N'sqlkmeans.check_keys', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.check_keys AS RETURN 0;');
GO
-- Raises, both at once, that rows have no key or the key of another: what a table with this key
-- would refuse with the first such row alone. @relation stands after FROM and has the alias s.
ALTER PROCEDURE sqlkmeans.check_keys
    @relation nvarchar(max),
    @key      nvarchar(max)
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @known nvarchar(max) = sqlkmeans.each_name(@key, N's.{} IS NOT NULL', N' AND ');
    DECLARE @columns nvarchar(max) = sqlkmeans.each_name(@key, N's.{}', N', ');
    DECLARE @names nvarchar(max) = N'';
    DECLARE @problems nvarchar(max);
    DECLARE @statement nvarchar(max);
    DECLARE @position int = 0;
    DECLARE @nulls bigint;
    DECLARE @repeats bigint;
    DECLARE @example nvarchar(max);

    -- Of a key that is as it should be nothing is added up but its one row.
    SET @statement = N'SELECT @nulls = COALESCE(SUM(g.nulls * g.customers), 0),
    @repeats = COALESCE(SUM(CASE g.nulls WHEN 0 THEN g.customers - 1 END), 0)
FROM (SELECT COUNT_BIG(*) AS customers, '
        + sqlkmeans.each_name(@key, N'CASE WHEN s.{} IS NULL THEN 1 ELSE 0 END', N' + ')
        + N' AS nulls FROM ' + @relation + N' GROUP BY ' + @columns + N'
      HAVING COUNT_BIG(*) > 1 OR ' + sqlkmeans.each_name(@key, N's.{} IS NULL', N' OR ') + N') AS g;';
    EXECUTE sys.sp_executesql
        @statement, N'@nulls bigint OUTPUT, @repeats bigint OUTPUT',
        @nulls = @nulls OUTPUT, @repeats = @repeats OUTPUT;
    IF @nulls = 0 AND @repeats = 0
        RETURN 0;

    WHILE EXISTS (SELECT 1 FROM OPENJSON(@key) AS j WHERE CAST(j.[key] AS int) = @position)
    BEGIN
        SELECT @names = @names + CASE @position WHEN 0 THEN N'' ELSE N', ' END + j.[value]
        FROM OPENJSON(@key) AS j
        WHERE CAST(j.[key] AS int) = @position;
        SET @position = @position + 1;
    END;
    SET @problems = CASE WHEN @nulls > 0 THEN N'key ' + @names + N': '
        + sqlkmeans.number_text(@nulls) + N' NULL; a key identifies a customer' + @line
        ELSE N'' END;
    IF @repeats > 0
    BEGIN
        SET @statement = N'SELECT TOP (1) @example = '
            + sqlkmeans.each_name(@key, N'CAST(s.{} AS nvarchar(400))', N' + N'', '' + ')
            + N' FROM ' + @relation + N' WHERE ' + @known + N' GROUP BY ' + @columns
            + N' HAVING COUNT_BIG(*) > 1 ORDER BY ' + @columns + N';';
        EXECUTE sys.sp_executesql
            @statement, N'@example nvarchar(max) OUTPUT', @example = @example OUTPUT;
        SET @problems = @problems + N'key ' + @names + N': not unique; '
            + sqlkmeans.number_text(@repeats) + N' rows repeat the key of another (for example '
            + @example + N'); aggregate in the source, or add a key column';
    END;
    EXECUTE sqlkmeans.raise_problems @number = 50003, @problems = @problems;
END;
GO
