IF OBJECT_ID(N'sqlkmeans.each_number', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.each_number (@last int, @template nvarchar(max),
        @separator nvarchar(40)) RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- For every number from 1 to the last: the template with {} replaced by it.
ALTER FUNCTION sqlkmeans.each_number
(
    @last      int,
    @template  nvarchar(max),
    @separator nvarchar(40)
)
RETURNS nvarchar(max)
AS
BEGIN
    DECLARE @result nvarchar(max) = N'';
    DECLARE @number int = 0;

    WHILE @number < @last
    BEGIN
        SET @number = @number + 1;
        SET @result = @result
            + CASE WHEN @number > 1 THEN @separator ELSE N'' END
            + REPLACE(@template, N'{}', CAST(@number AS nvarchar(10)));
    END;

    RETURN @result;
END;
GO
