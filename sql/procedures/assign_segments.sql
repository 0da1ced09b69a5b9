IF OBJECT_ID(N'sqlkmeans.assign_segments', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.assign_segments AS RETURN 0;');
GO
-- Labels new, changed and departed customers with the stored model, in SQL alone, and publishes.
ALTER PROCEDURE sqlkmeans.assign_segments
    @segmentation nvarchar(128) = NULL,
    @run_id       bigint        = NULL OUTPUT,
    @medians      bit           = 1,
    @quiet        bit           = 0,
    @help         bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@segmentation', N'nvarchar(128)', N'NULL',
                N'A segmentation that has a model; the caller must be able to read its source.'),
            (2, N'@run_id', N'bigint OUTPUT', N'NULL', N'The run that records the assignment.'),
            (3, N'@medians', N'bit', N'1',
                N'0 leaves out the medians of the profile, the only figures that take a second look at the rows.'),
            (4, N'@quiet', N'bit', N'0', N'1 gives no row back, for a procedure that calls this one.'),
            (5, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @problems nvarchar(max);
    DECLARE @definition nvarchar(max);
    DECLARE @active bigint;
    DECLARE @publication nvarchar(max);
    DECLARE @rows bigint;
    DECLARE @total bigint;
    DECLARE @arrived bigint;
    DECLARE @moved bigint;
    DECLARE @departed bigint;
    DECLARE @written bigint;
    DECLARE @error nvarchar(max);

    SELECT @definition = g.definition, @active = g.active_run_id
    FROM sqlkmeans.segmentation AS g
    WHERE g.name = @segmentation;

    IF @definition IS NULL
        SET @problems = N'@segmentation: ' + COALESCE(@segmentation, N'NULL')
            + N' given; allowed: the name of a segmentation in sqlkmeans.segmentation';
    ELSE IF @active IS NULL
        SET @problems = @segmentation + N': no model yet; the first run makes it';
    EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;

    -- A category has several features, one after the other.
    IF EXISTS (
        SELECT 1
        FROM OPENJSON(@definition, '$.features') AS j
        FULL JOIN (SELECT ROW_NUMBER() OVER (ORDER BY MIN(m.position)) AS position, m.source_column,
                       m.type, m.transform, m.weight
                   FROM sqlkmeans.model_feature AS m
                   WHERE m.run_id = @active
                   GROUP BY m.source_column, m.type, m.transform, m.weight) AS f
            ON f.position = CAST(j.[key] AS int) + 1
           AND f.source_column = JSON_VALUE(j.[value], '$.column')
           AND f.type = COALESCE(JSON_VALUE(j.[value], '$.type'), N'number')
           AND f.transform = COALESCE(JSON_VALUE(j.[value], '$.transform'), N'none')
           AND f.weight = COALESCE(CAST(JSON_VALUE(j.[value], '$.weight') AS float), 1)
        WHERE f.position IS NULL OR j.[key] IS NULL)
    BEGIN
        SET @problems = @segmentation
            + N': the features are not those of the stored model; a run fits a new one';
        EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;
    END;

    EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @keep = 1;

    BEGIN TRY
        EXECUTE sqlkmeans.start_run
            @segmentation = @segmentation, @kind = N'assign', @engine = N'tsql',
            @run_id = @run_id OUTPUT;
        EXECUTE sqlkmeans.label_rows
            @run_id = @run_id, @medians = @medians, @total = @total OUTPUT,
            @publication = @publication OUTPUT;
        SET @rows = CAST(JSON_VALUE(@publication, '$.run.rows') AS bigint);

        EXECUTE sqlkmeans.publish_staged
            @run_id = @run_id, @publication = @publication, @arrived = @arrived OUTPUT,
            @moved = @moved OUTPUT, @departed = @departed OUTPUT, @written = @written OUTPUT;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1, @keep = 1;
    END TRY
    BEGIN CATCH
        SET @error = ERROR_MESSAGE();
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        IF EXISTS (SELECT 1 FROM sqlkmeans.run AS r WHERE r.run_id = @run_id)
            EXECUTE sqlkmeans.fail_run @run_id = @run_id, @error = @error;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1, @keep = 1;
        THROW;
    END CATCH;

    IF @quiet = 0
        SELECT @run_id AS run_id, @rows AS [rows], @total - @rows AS skipped, @arrived AS arrived,
            @moved AS moved, @departed AS departed, @written AS written;
END;
GO
