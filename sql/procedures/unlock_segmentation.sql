IF OBJECT_ID(N'sqlkmeans.unlock_segmentation', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.unlock_segmentation AS RETURN 0;');
GO
-- Gives back what lock_segmentation took, or a call that was cancelled; harmless where this session
-- holds nothing.
ALTER PROCEDURE sqlkmeans.unlock_segmentation
    @segmentation nvarchar(128) = NULL,
    @help         bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@segmentation', N'nvarchar(128)', N'NULL',
                N'The segmentation to give back.'),
            (2, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    IF COALESCE(@segmentation, N'') = N''
        EXECUTE sqlkmeans.raise_problems @number = 50002,
            @problems = N'@segmentation: missing; allowed: the name of a segmentation';

    EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1, @keep = 1;
END;
GO
