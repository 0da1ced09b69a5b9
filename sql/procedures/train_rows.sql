IF OBJECT_ID(N'sqlkmeans.train_rows', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_rows AS RETURN 0;');
GO
-- Gives the tables of rows and centroids of train_segmentation their columns, and fills its
-- #sqlkmeans_prepared from its #sqlkmeans_input by what the run has in model_feature, with the text that
-- scores. #sqlkmeans_input, which nobody has to read again, ends empty.
ALTER PROCEDURE sqlkmeans.train_rows
    @run_id     bigint,
    @definition nvarchar(max),
    @features   int    OUTPUT,
    @rows       bigint OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @key nvarchar(max) = JSON_QUERY(@definition, '$.key');
    DECLARE @number int = 0;
    DECLARE @columns int;
    DECLARE @source nvarchar(max) = N'';
    DECLARE @values nvarchar(max);
    DECLARE @scaled nvarchar(max);
    DECLARE @statement nvarchar(max);

    SELECT @features = MAX(f.position) FROM sqlkmeans.model_feature AS f WHERE f.run_id = @run_id;
    EXECUTE sqlkmeans.widen_tables @run_id = @run_id, @key = @key, @features = @features;
    SET @statement = sqlkmeans.each_number(@features,
            N'ALTER TABLE #sqlkmeans_sample ADD [sqlkmeans o{}] float NULL; '
            + N'ALTER TABLE #sqlkmeans_sample ADD [sqlkmeans z{}] float NULL; '
            + N'ALTER TABLE #sqlkmeans_border ADD [sqlkmeans z{}] float NULL; '
            + N'ALTER TABLE #sqlkmeans_moved ADD z{} float NULL;', N' ');
    EXECUTE sys.sp_executesql @statement;
    EXECUTE sqlkmeans.store_in_columns @table = N'#sqlkmeans_border';

    SELECT @columns = COUNT(*) FROM #sqlkmeans_column AS c;
    WHILE @number < @columns
    BEGIN
        SET @number = @number + 1;
        SELECT @source = @source + CASE @number WHEN 1 THEN N'' ELSE N', ' END + REPLACE(CASE c.type
                WHEN N'date' THEN N'DATEADD(day, CAST(i.[sqlkmeans f{}] AS int), CAST(''19700101'' AS date))'
                ELSE N'i.[sqlkmeans f{}]' END, N'{}', CAST(@number AS nvarchar(10)))
            + N' AS ' + QUOTENAME(c.name)
        FROM #sqlkmeans_column AS c
        WHERE c.number = @number;
    END;
    EXECUTE sqlkmeans.scoring_text
        @run_id = @run_id, @row = 1, @values = @values OUTPUT, @scaled = @scaled OUTPUT;
    SET @statement = N'INSERT INTO #sqlkmeans_prepared WITH (TABLOCK) (' + sqlkmeans.each_name(@key, N'{}', N', ')
        + N', [sqlkmeans row], [sqlkmeans previous], [sqlkmeans before], [sqlkmeans flagged], [sqlkmeans weight]'
        + sqlkmeans.each_number(@features, N', [sqlkmeans o{}], [sqlkmeans z{}]', N'') + N')
SELECT ' + sqlkmeans.each_name(@key, N'i.{}', N', ')
        + N', i.[sqlkmeans row], i.[sqlkmeans previous], i.[sqlkmeans before], i.[sqlkmeans flagged], i.[sqlkmeans weight]'
        + sqlkmeans.each_number(@features, N', o.o{}, z.z{}', N'') + N'
FROM #sqlkmeans_input AS i
CROSS APPLY (SELECT ' + @source + N') AS s
CROSS APPLY (SELECT ' + @values + N') AS o
' + @scaled + N'
WHERE 1 = 1' + CASE JSON_VALUE(@definition, '$.missing') WHEN N'skip'
            THEN sqlkmeans.each_number(@columns, N' AND i.[sqlkmeans f{}] IS NOT NULL', N'')
            ELSE N'' END + N';
SET @rows = ROWCOUNT_BIG();';
    EXECUTE sys.sp_executesql @statement, N'@rows bigint OUTPUT', @rows = @rows OUTPUT;
    TRUNCATE TABLE #sqlkmeans_input;
END;
GO
