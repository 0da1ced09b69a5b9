IF OBJECT_ID(N'sqlkmeans.delete_runs', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.delete_runs AS RETURN 0;');
GO
-- Deletes the runs in the caller's #sqlkmeans_old with all that they learnt, in one transaction.
ALTER PROCEDURE sqlkmeans.delete_runs
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    BEGIN TRY
        BEGIN TRANSACTION;
        DELETE t FROM sqlkmeans.k_score AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
        DELETE t FROM sqlkmeans.feature_drift AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
        DELETE t FROM sqlkmeans.feature_bin AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
        DELETE t FROM sqlkmeans.typical_customer AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
        DELETE t FROM sqlkmeans.segment_profile AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
        DELETE t FROM sqlkmeans.segment_feature AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
        DELETE t FROM sqlkmeans.segment AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
        DELETE t FROM sqlkmeans.centroid AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
        DELETE t FROM sqlkmeans.model_feature AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
        DELETE t FROM sqlkmeans.run AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
        COMMIT TRANSACTION;
    END TRY
    BEGIN CATCH
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        THROW;
    END CATCH;
END;
GO
