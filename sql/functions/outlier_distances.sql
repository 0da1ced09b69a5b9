IF OBJECT_ID(N'sqlkmeans.outlier_distances', N'IF') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.outlier_distances (@publication nvarchar(max)) RETURNS TABLE
        AS RETURN (SELECT 1 AS segment_id);');
GO
-- The distance of each segment beyond which a customer is an outlier: what a publication says, else
-- what the model has that it names. No row for a segment without one.
ALTER FUNCTION sqlkmeans.outlier_distances (@publication nvarchar(max))
RETURNS TABLE
AS
RETURN
(
    SELECT CAST(j.[key] AS int) AS segment_id, CAST(j.[value] AS float) AS outlier_distance
    FROM OPENJSON(@publication, '$.outlier_distances') AS j
    UNION ALL
    SELECT c.segment_id, c.outlier_distance
    FROM sqlkmeans.centroid AS c
    WHERE c.run_id = CAST(JSON_VALUE(@publication, '$.model_run_id') AS bigint)
      AND c.position = 1 AND c.outlier_distance IS NOT NULL
      AND JSON_QUERY(@publication, '$.outlier_distances') IS NULL
);
GO
