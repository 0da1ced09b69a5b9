IF OBJECT_ID(N'sqlkmeans.publish_run', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.publish_run AS RETURN 0;');
GO
-- Makes a staged run visible in one transaction of changes only.
ALTER PROCEDURE sqlkmeans.publish_run
    @run_id      bigint        = NULL,
    @publication nvarchar(max) = NULL,
    @arrived     bigint        = NULL OUTPUT,
    @moved       bigint        = NULL OUTPUT,
    @departed    bigint        = NULL OUTPUT,
    @written     bigint        = NULL OUTPUT,
    @help        bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@run_id', N'bigint', N'NULL',
                N'A run that start_run made and whose staging table holds its labels, all or only the changes.'),
            (2, N'@publication', N'nvarchar(max)', N'NULL',
                N'JSON: segment_ids, model_run_id, run, tables, last_segment_id, distance_tolerance, outlier_distances, staged_rows, changes_only.'),
            (3, N'@arrived', N'bigint OUTPUT', N'NULL', N'Customers that came.'),
            (4, N'@moved', N'bigint OUTPUT', N'NULL', N'Customers that changed segment.'),
            (5, N'@departed', N'bigint OUTPUT', N'NULL', N'Customers that left.'),
            (6, N'@written', N'bigint OUTPUT', N'NULL',
                N'Rows inserted, updated or deleted in the segment table.'),
            (7, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    EXECUTE sqlkmeans.publish_staged
        @run_id = @run_id, @publication = @publication, @arrived = @arrived OUTPUT,
        @moved = @moved OUTPUT, @departed = @departed OUTPUT, @written = @written OUTPUT;

    SELECT @arrived AS arrived, @moved AS moved, @departed AS departed, @written AS written;
END;
GO
