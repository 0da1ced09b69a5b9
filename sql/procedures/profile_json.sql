IF OBJECT_ID(N'sqlkmeans.profile_json', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.profile_json AS RETURN 0;');
GO
-- The caller's #sqlkmeans_profile of the features of a model, and its #sqlkmeans_drift, as a publication
-- has them: members segment_feature and feature_drift of its tables.
ALTER PROCEDURE sqlkmeans.profile_json
    @model_run_id bigint,
    @rows         bigint,
    @members      nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    SET @members = N'"segment_feature":' + (
        SELECT COALESCE(c.segment_id, 0) AS segment_id, p.position, f.feature, p.mean, p.deviation,
            p.lowest AS [min], p.median, p.highest AS [max], COALESCE(c.size, @rows) - p.known AS missing,
            p.importance
        FROM #sqlkmeans_profile AS p
        LEFT JOIN #sqlkmeans_cluster AS c ON c.cluster = p.cluster
        INNER JOIN sqlkmeans.model_feature AS f ON f.run_id = @model_run_id AND f.position = p.position
        FOR JSON PATH
    ) + COALESCE(N',"feature_drift":' + (
        SELECT d.position, d.feature, d.psi, d.mean, d.previous_mean, d.missing_share,
            d.previous_missing_share
        FROM #sqlkmeans_drift AS d
        FOR JSON PATH
    ), N'');
END;
GO
