IF OBJECT_ID(N'sqlkmeans.rename_segment', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.rename_segment AS RETURN 0;');
GO
-- Gives a segment a name, in all its runs, that later runs keep. Under the lock: a run that is training
-- has read the names already, and would publish the one of before.
ALTER PROCEDURE sqlkmeans.rename_segment
    @segmentation nvarchar(128) = NULL,
    @segment_id   int           = NULL,
    @name         nvarchar(400) = NULL,
    @description  nvarchar(max) = NULL,
    @help         bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@segmentation', N'nvarchar(128)', N'NULL', N'The name of the segmentation.'),
            (2, N'@segment_id', N'int', N'NULL', N'The segment, 1 or more.'),
            (3, N'@name', N'nvarchar(400)', N'NULL',
                N'The name; no other segment of the active model has it.'),
            (4, N'@description', N'nvarchar(max)', N'NULL',
                N'One sentence; NULL leaves the one that is there.'),
            (5, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @problems nvarchar(max) = N'';
    DECLARE @active bigint;
    DECLARE @other int;

    SET @name = LTRIM(RTRIM(@name));
    IF EXISTS (SELECT 1 FROM sqlkmeans.segmentation AS g WHERE g.name = @segmentation)
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation;

    SELECT @active = g.active_run_id FROM sqlkmeans.segmentation AS g WHERE g.name = @segmentation;
    SELECT @other = MIN(s.segment_id)
    FROM sqlkmeans.segment AS s
    INNER JOIN sqlkmeans.run AS r ON r.run_id = s.run_id
    WHERE r.segmentation = @segmentation AND s.name = @name AND s.segment_id <> @segment_id;

    IF NOT EXISTS (SELECT 1 FROM sqlkmeans.segmentation AS g WHERE g.name = @segmentation)
        SET @problems = @problems + N'@segmentation: ' + COALESCE(@segmentation, N'NULL')
            + N' given; allowed: the name of a segmentation in sqlkmeans.segmentation' + @line;
    ELSE IF @segment_id IS NULL OR @segment_id < 1 OR NOT EXISTS
        (SELECT 1 FROM sqlkmeans.segment AS s
         INNER JOIN sqlkmeans.run AS r ON r.run_id = s.run_id
         WHERE r.segmentation = @segmentation AND s.segment_id = @segment_id)
        SET @problems = @problems + N'@segment_id: '
            + COALESCE(CAST(@segment_id AS nvarchar(10)), N'NULL')
            + N' given; allowed: a segment of ' + @segmentation + @line;
    IF COALESCE(@name, N'') = N'' OR LEN(@name) > 128
        SET @problems = @problems + N'@name: ' + COALESCE(@name, N'NULL')
            + N' given; allowed: 1 to 128 characters' + @line;
    ELSE IF sqlkmeans.is_visible(@name) = 0
        SET @problems = @problems + N'@name: has characters that cannot be seen, or that change how '
            + N'others are; allowed: letters, digits, signs and blanks' + @line;
    ELSE IF @other IS NOT NULL
        SET @problems = @problems + N'@name: ' + @name + N' is or was the name of segment '
            + CAST(@other AS nvarchar(10)) + N'; each needs its own' + @line;

    BEGIN TRY
        EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;
        BEGIN TRANSACTION;

        UPDATE s
        SET name = @name, name_source = N'given', description = COALESCE(@description, s.description)
        FROM sqlkmeans.segment AS s
        INNER JOIN sqlkmeans.run AS r ON r.run_id = s.run_id
        WHERE r.segmentation = @segmentation AND s.segment_id = @segment_id;

        COMMIT TRANSACTION;
        EXECUTE sqlkmeans.refresh_function @segmentation = @segmentation, @run_id = @active;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1;
    END TRY
    BEGIN CATCH
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        IF @segmentation IS NOT NULL
            EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1;
        THROW;
    END CATCH;
END;
GO
