IF OBJECT_ID(N'sqlkmeans.check_sizes', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.check_sizes AS RETURN 0;');
GO
-- Refuses a publication of changes after which the segments are not as large as the run counted
-- them: somebody else changed the table since the run compared it with its labels.
ALTER PROCEDURE sqlkmeans.check_sizes
    @target      nvarchar(1000),
    @publication nvarchar(max)
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @segments nvarchar(max) = JSON_QUERY(@publication, '$.tables.segment');
    DECLARE @differences bigint;
    DECLARE @problems nvarchar(max);
    DECLARE @statement nvarchar(max) = N'INSERT INTO #sqlkmeans_held (segment_id, size) '
        + N'SELECT t.segment_id, COUNT_BIG(*) FROM ' + sqlkmeans.quoted_name(@target, N'')
        + N' AS t GROUP BY t.segment_id;';

    -- Counted on its own, the plan of a large table does not depend on a guess about the JSON.
    CREATE TABLE #sqlkmeans_held (segment_id int NOT NULL PRIMARY KEY, size bigint NOT NULL);
    EXECUTE sqlkmeans.as_owner @statement = @statement;

    SELECT @differences = COUNT_BIG(*)
    FROM #sqlkmeans_held AS h
    FULL JOIN (SELECT j.segment_id, j.size
               FROM OPENJSON(@segments) WITH (
                   segment_id int    '$.segment_id',
                   size       bigint '$.size'
               ) AS j
               WHERE j.segment_id > 0) AS e
        ON e.segment_id = h.segment_id
    WHERE COALESCE(h.size, 0) <> COALESCE(e.size, 0);
    IF @differences > 0
    BEGIN
        SET @problems = @target + N' was changed by somebody else while this run went on; '
            + N'nothing was published; run again';
        EXECUTE sqlkmeans.raise_problems @number = 50004, @problems = @problems;
    END;
END;
GO
