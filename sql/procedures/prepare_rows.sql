IF OBJECT_ID(N'sqlkmeans.prepare_rows', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.prepare_rows AS RETURN 0;');
GO
-- Gives the caller's #sqlkmeans_prepared, #sqlkmeans_scored and #sqlkmeans_centroid the columns of a run:
-- the key, each feature in its own units, [sqlkmeans o1] …, and as K-Means sees it, [sqlkmeans z1] …;
-- and the tables of rows an index that is read in batches. Then fills #sqlkmeans_prepared, so that a
-- logarithm is taken once a row, with the model of @model_run_id: @relation stands behind FROM and makes
-- rows s of the features' columns; @given are the key and the five columns before the features.
ALTER PROCEDURE sqlkmeans.prepare_rows
    @run_id       bigint,
    @model_run_id bigint,
    @key          nvarchar(max),
    @features     int,
    @relation     nvarchar(max),
    @given        nvarchar(max),
    @rows         bigint OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @staging nvarchar(200) =
        N'sqlkmeans.' + QUOTENAME(N'staging_' + CAST(@run_id AS nvarchar(20)));
    DECLARE @key_columns nvarchar(max);
    DECLARE @values nvarchar(max);
    DECLARE @scaled nvarchar(max);
    DECLARE @statement nvarchar(max);

    -- Columns that are added to a temporary table by a nested batch stay in it. A key may be NULL
    -- here, so that all such rows are told of at once.
    EXECUTE sqlkmeans.describe_key
        @table = @staging, @key = @key, @key_columns = @key_columns OUTPUT,
        @before = N'ALTER TABLE #sqlkmeans_prepared ADD ', @after = N' NULL; ';
    SET @statement = @key_columns
        + REPLACE(@key_columns, N'ALTER TABLE #sqlkmeans_prepared ADD ',
                  N'ALTER TABLE #sqlkmeans_scored ADD ')
        + sqlkmeans.each_number(@features,
            N'ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans o{}] float NULL; '
            + N'ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans z{}] float NULL; '
            + N'ALTER TABLE #sqlkmeans_scored ADD [sqlkmeans o{}] float NULL; '
            + N'ALTER TABLE #sqlkmeans_centroid ADD z{} float NULL;', N' ');
    EXECUTE sys.sp_executesql @statement;
    EXECUTE sqlkmeans.store_in_columns @table = N'#sqlkmeans_prepared';
    EXECUTE sqlkmeans.store_in_columns @table = N'#sqlkmeans_scored';

    EXECUTE sqlkmeans.scoring_text
        @run_id = @model_run_id, @row = 1, @values = @values OUTPUT, @scaled = @scaled OUTPUT;
    SET @statement = N'INSERT INTO #sqlkmeans_prepared WITH (TABLOCK) (' + sqlkmeans.each_name(@key, N'{}', N', ')
        + N', [sqlkmeans row], [sqlkmeans previous], [sqlkmeans before], [sqlkmeans flagged], [sqlkmeans weight]'
        + sqlkmeans.each_number(@features, N', [sqlkmeans o{}], [sqlkmeans z{}]', N'') + N')
SELECT ' + @given + sqlkmeans.each_number(@features, N', o.o{}, z.z{}', N'') + N'
FROM ' + @relation + N'
CROSS APPLY (SELECT ' + @values + N') AS o
' + @scaled + N';
SET @rows = ROWCOUNT_BIG();';
    EXECUTE sys.sp_executesql @statement, N'@rows bigint OUTPUT', @rows = @rows OUTPUT;
END;
GO
