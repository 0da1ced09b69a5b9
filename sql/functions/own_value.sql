IF OBJECT_ID(N'sqlkmeans.own_value', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.own_value (@run_id bigint, @position int,
        @value nvarchar(400)) RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- A feature of a model in its own units, as an expression over @value, the text of its column: a
-- number, a date's age in days, 1 or 0 for a category's level; pulled in to the feature's limits,
-- and NULL where the column is.
ALTER FUNCTION sqlkmeans.own_value
(
    @run_id   bigint,
    @position int,
    @value    nvarchar(400)
)
RETURNS nvarchar(max)
AS
BEGIN
    DECLARE @type nvarchar(16);
    DECLARE @column nvarchar(400);
    DECLARE @level nvarchar(400);
    DECLARE @levels nvarchar(max) = N'';
    DECLARE @low nvarchar(40);
    DECLARE @high nvarchar(40);
    DECLARE @date nvarchar(10);
    DECLARE @own nvarchar(max) = @value;
    DECLARE @other int = 0;

    SELECT @type = f.type, @column = f.source_column, @level = f.level,
        @low = LTRIM(RTRIM(CONVERT(nvarchar(40), f.low, 3))),
        @high = LTRIM(RTRIM(CONVERT(nvarchar(40), f.high, 3))),
        @date = CONVERT(nvarchar(10), f.reference_date, 112)
    FROM sqlkmeans.model_feature AS f
    WHERE f.run_id = @run_id AND f.position = @position;

    IF @type = N'category'
    BEGIN
        -- The level itself or, for all the rest, the levels that have a feature of their own.
        WHILE @level IS NULL AND @other IS NOT NULL
        BEGIN
            SELECT @other = MIN(f.position)
            FROM sqlkmeans.model_feature AS f
            WHERE f.run_id = @run_id AND f.position > @other AND f.source_column = @column
              AND f.level IS NOT NULL;
            SELECT @levels = @levels + CASE WHEN @levels = N'' THEN N'' ELSE N', ' END
                + sqlkmeans.text_literal(f.level + N'.')
            FROM sqlkmeans.model_feature AS f
            WHERE f.run_id = @run_id AND f.position = @other;
        END;
        IF @level IS NOT NULL
            SET @levels = sqlkmeans.text_literal(@level + N'.');

        -- With a full stop behind both, blanks at the end count too.
        RETURN N'CASE WHEN ' + @value + N' IS NULL THEN NULL WHEN (' + @value
            + N' + N''.'') COLLATE Latin1_General_100_BIN2 IN (' + @levels + N') THEN '
            + CASE WHEN @level IS NULL THEN N'0e0 ELSE 1e0 END' ELSE N'1e0 ELSE 0e0 END' END;
    END;

    IF @type = N'date'
        SET @own = N'CAST(DATEDIFF(day, ' + @value + N', ''' + @date + N''') AS float)';

    RETURN CASE WHEN @low IS NULL THEN N'' ELSE N'CASE WHEN ' + @own + N' < ' + @low + N' THEN '
               + @low + N' WHEN ' + @own + N' > ' + @high + N' THEN ' + @high + N' ELSE ' END
        + @own + CASE WHEN @low IS NULL THEN N'' ELSE N' END' END;
END;
GO
