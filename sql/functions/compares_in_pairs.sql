IF OBJECT_ID(N'sqlkmeans.compares_in_pairs', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.compares_in_pairs (@k int, @features int) RETURNS bit
        AS BEGIN RETURN 0; END;');
GO
-- Whether the nearest of k centroids is found by comparing distances in pairs, over a variable for
-- each coordinate. Each pair is written out, four names a feature and distance, and the server takes
-- 65,535 names in one expression, which may hold the distances three times (train_labels); long
-- before, compiling takes longer than ordering them.
ALTER FUNCTION sqlkmeans.compares_in_pairs (@k int, @features int)
RETURNS bit
AS
BEGIN
    RETURN CASE WHEN CAST(@k AS bigint) * (@k - 1) * 4 * @features <= 10000
                     AND CAST(@k + 1 AS bigint) * @features <= 1500 THEN 1 ELSE 0 END;
END;
GO
