IF OBJECT_ID(N'sqlkmeans.joined', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.joined (@rows nvarchar(max), @column nvarchar(128),
        @separator nvarchar(40)) RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- One column of a query FOR JSON PATH, its texts one after the other in the query's order; nothing for
-- no rows. An assignment that adds up over rows promises no order, STRING_AGG came with 2017, and FOR
-- XML refuses some letters.
ALTER FUNCTION sqlkmeans.joined
(
    @rows      nvarchar(max),
    @column    nvarchar(128),
    @separator nvarchar(40)
)
RETURNS nvarchar(max)
AS
BEGIN
    DECLARE @result nvarchar(max) = N'';
    DECLARE @row nvarchar(max);
    DECLARE @position int = 0;

    WHILE 1 = 1
    BEGIN
        SET @row = NULL;
        SELECT @row = j.[value] FROM OPENJSON(@rows) AS j WHERE CAST(j.[key] AS int) = @position;
        IF @row IS NULL
            BREAK;

        SELECT @result = @result + CASE @position WHEN 0 THEN N'' ELSE @separator END + c.[value]
        FROM OPENJSON(@row) AS c
        WHERE c.[key] = @column;
        SET @position = @position + 1;
    END;

    RETURN @result;
END;
GO
