IF OBJECT_ID(N'sqlkmeans.labels_text', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.labels_text (@key nvarchar(max))
        RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- The query of the labels in #sqlkmeans_scored and of what stands in the segment table, as stage_changes
-- takes them.
ALTER FUNCTION sqlkmeans.labels_text (@key nvarchar(max))
RETURNS nvarchar(max)
AS
BEGIN
    RETURN N'SELECT ' + sqlkmeans.each_name(@key, N's.{}', N', ') + N', c.segment_id,
    s.[sqlkmeans distance] AS distance, s.[sqlkmeans previous], s.[sqlkmeans before], s.[sqlkmeans flagged]
FROM #sqlkmeans_scored AS s
INNER JOIN #sqlkmeans_cluster AS c ON c.cluster = s.[sqlkmeans cluster]';
END;
GO
