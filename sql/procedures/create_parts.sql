IF OBJECT_ID(N'sqlkmeans.create_parts', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.create_parts AS RETURN 0;');
GO
-- Makes a heap beside a run's staging table, which many sessions fill at once. Whoever writes a part
-- of the labels puts a number of his own beside them, and whoever publishes takes from it what he was
-- told of. It has no key: what an attempt left that failed must not stop the next one.
ALTER PROCEDURE sqlkmeans.create_parts
    @run_id bigint = NULL,
    @help   bit    = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@run_id', N'bigint', N'NULL',
                N'A running run; the heap is sqlkmeans.staging_<run_id>_parts.'),
            (2, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @problems nvarchar(max) = N'';
    DECLARE @key nvarchar(max);
    DECLARE @staging nvarchar(100) = N'staging_' + CAST(@run_id AS nvarchar(20));
    DECLARE @table nvarchar(200) = N'sqlkmeans.' + QUOTENAME(@staging + N'_parts');
    DECLARE @statement nvarchar(max);

    SELECT @key = JSON_QUERY(r.definition, '$.key')
    FROM sqlkmeans.run AS r
    WHERE r.run_id = @run_id AND r.status = N'running' AND r.kind <> N'choose_k';

    IF @key IS NULL
        SET @problems = @problems + N'@run_id: ' + COALESCE(CAST(@run_id AS nvarchar(20)), N'NULL')
            + N' given; allowed: a running run that publishes labels' + @line;
    EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;

    SET @statement = N'DROP TABLE IF EXISTS ' + @table + N';
SELECT ' + sqlkmeans.each_name(@key, N'{}', N', ')
        + N', cluster, distance, CAST(0 AS bigint) AS [sqlkmeans attempt] INTO ' + @table
        + N' FROM sqlkmeans.' + QUOTENAME(@staging) + N' WHERE 1 = 0;
GRANT SELECT, INSERT ON ' + @table + N' TO sqlkmeans_operator;';
    EXECUTE sqlkmeans.as_owner @statement = @statement;
END;
GO
