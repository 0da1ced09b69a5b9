IF OBJECT_ID(N'sqlkmeans.self_test_end', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.self_test_end AS RETURN 0;');
GO
-- Adds to the caller's #sqlkmeans_check: old runs go, and then the segmentation itself.
ALTER PROCEDURE sqlkmeans.self_test_end
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    INSERT INTO #sqlkmeans_check (name, statement)
    VALUES
    (N'purge deletes old runs and keeps the model', N'
UPDATE sqlkmeans.run SET finished_at = DATEADD(day, -400, finished_at)
WHERE segmentation = N''sqlkmeans_self_test_tsql'' AND status = N''failed'';
EXECUTE sqlkmeans.purge @segmentation = N''sqlkmeans_self_test_tsql'', @keep_days = 365, @quiet = 1;
SELECT @wrong = COUNT_BIG(*) FROM sqlkmeans.run AS r
WHERE r.segmentation = N''sqlkmeans_self_test_tsql'' AND r.status = N''failed'';
SELECT @wrong = @wrong + 3 - COUNT(DISTINCT c.segment_id)
FROM sqlkmeans.centroid AS c
INNER JOIN sqlkmeans.segmentation AS g ON g.active_run_id = c.run_id
WHERE g.name = N''sqlkmeans_self_test_tsql'';'),
    (N'drop leaves nothing', N'
EXECUTE sqlkmeans.drop_segmentation
    @segmentation = N''sqlkmeans_self_test_tsql'', @drop_target = 1, @quiet = 1;
SELECT @wrong = (SELECT COUNT_BIG(*) FROM sqlkmeans.run AS r
                 WHERE r.segmentation = N''sqlkmeans_self_test_tsql'')
    + (SELECT COUNT_BIG(*) FROM sqlkmeans.segmentation AS g WHERE g.name = N''sqlkmeans_self_test_tsql'')
    + (SELECT COUNT_BIG(*) FROM sys.objects AS o
       WHERE o.name IN (N''segment_tsql'', N''segment_tsql_history'', N''segment_tsql_named'')
         AND o.schema_id = SCHEMA_ID(N''sqlkmeans_self_test'')
          OR o.name = N''assign_sqlkmeans_self_test_tsql'' AND o.schema_id = SCHEMA_ID(N''sqlkmeans''));');
END;
GO
