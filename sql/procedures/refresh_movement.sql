IF OBJECT_ID(N'sqlkmeans.refresh_movement', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.refresh_movement AS RETURN 0;');
GO
-- Makes the view segment_movement anew: one SELECT for each segmentation that has a history. Where
-- that fails, the run stays published and gets a warning.
ALTER PROCEDURE sqlkmeans.refresh_movement
    @run_id bigint = NULL
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @union nvarchar(max) = N'';
    DECLARE @segmentation nvarchar(128) = N'';
    DECLARE @definition nvarchar(max);
    DECLARE @history nvarchar(1000);
    DECLARE @history_id bigint;
    DECLARE @statement nvarchar(max);

    WHILE 1 = 1
    BEGIN
        SET @definition = NULL;
        SELECT TOP (1) @segmentation = g.name, @definition = g.definition
        FROM sqlkmeans.segmentation AS g
        WHERE g.name > @segmentation AND g.active_run_id IS NOT NULL
        ORDER BY g.name;
        IF @definition IS NULL
            BREAK;

        SET @history = sqlkmeans.quoted_name(JSON_VALUE(@definition, '$.target'), N'_history');
        EXECUTE sqlkmeans.as_owner
            @statement = N'SET @arrived = OBJECT_ID(@text);', @text = @history,
            @arrived = @history_id OUTPUT;

        -- Segments have a name before they are aggregated: an aggregate may not mix columns of its own
        -- query with those of the row outside (error 8124).
        IF @history_id IS NOT NULL
            SET @union = @union + CASE WHEN @union = N'' THEN N'' ELSE N'
UNION ALL
' END + N'SELECT a.segmentation, a.run_id AS from_run_id, b.run_id AS to_run_id,
    m.from_segment_id, m.to_segment_id, m.customers
FROM sqlkmeans.run AS a
INNER JOIN sqlkmeans.run AS b ON b.segmentation = a.segmentation AND b.published_at > a.published_at
CROSS APPLY (
    SELECT c.from_segment_id, c.to_segment_id, COUNT_BIG(*) AS customers
    FROM (
        SELECT MAX(v.from_segment_id) AS from_segment_id, MAX(v.to_segment_id) AS to_segment_id
        FROM ' + @history + N' AS h
        CROSS APPLY (
            SELECT
                CASE WHEN h.valid_from <= a.published_at
                      AND (h.valid_to IS NULL OR h.valid_to > a.published_at)
                     THEN h.segment_id END AS from_segment_id,
                CASE WHEN h.valid_from <= b.published_at
                      AND (h.valid_to IS NULL OR h.valid_to > b.published_at)
                     THEN h.segment_id END AS to_segment_id
        ) AS v
        GROUP BY ' + sqlkmeans.each_name(JSON_QUERY(@definition, '$.key'), N'h.{}', N', ') + N'
    ) AS c
    WHERE c.from_segment_id IS NOT NULL OR c.to_segment_id IS NOT NULL
    GROUP BY c.from_segment_id, c.to_segment_id
) AS m
WHERE a.segmentation = N''' + REPLACE(@segmentation, N'''', N'''''')
                + N''' AND a.status = N''published'' AND b.status = N''published''';
    END;

    IF @union = N''
        SET @union = N'SELECT CAST(NULL AS nvarchar(128)) AS segmentation, '
            + N'CAST(NULL AS bigint) AS from_run_id, CAST(NULL AS bigint) AS to_run_id, '
            + N'CAST(NULL AS int) AS from_segment_id, CAST(NULL AS int) AS to_segment_id, '
            + N'CAST(NULL AS bigint) AS customers WHERE 1 = 0';

    BEGIN TRY
        -- One transaction: two segmentations may be published at the same time. Altered, so that what
        -- somebody was granted on it stays; a server without the catalog of module parameters cannot
        -- alter a view.
        BEGIN TRANSACTION;
        IF OBJECT_ID(N'sys.parameters') IS NULL
            EXECUTE sqlkmeans.as_owner
                @statement = N'DROP VIEW IF EXISTS sqlkmeans.segment_movement;';
        SET @statement = CASE WHEN OBJECT_ID(N'sqlkmeans.segment_movement', N'V') IS NULL
                              THEN N'CREATE' ELSE N'ALTER' END
            + N' VIEW sqlkmeans.segment_movement AS' + NCHAR(10) + @union + N';';
        EXECUTE sqlkmeans.as_owner @statement = N'EXECUTE (@text);', @text = @statement;
        COMMIT TRANSACTION;
    END TRY
    BEGIN CATCH
        SET @statement = N'the view segment_movement was not made anew: ' + ERROR_MESSAGE();
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        EXECUTE sqlkmeans.add_warning @run_id = @run_id, @warning = @statement;
    END CATCH;
END;
GO
