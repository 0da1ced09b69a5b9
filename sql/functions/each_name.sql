IF OBJECT_ID(N'sqlkmeans.each_name', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.each_name (@names nvarchar(max), @template nvarchar(max),
        @separator nvarchar(40)) RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- For every name of a JSON list, in its order: the template with {} replaced by the quoted name.
ALTER FUNCTION sqlkmeans.each_name
(
    @names     nvarchar(max),
    @template  nvarchar(max),
    @separator nvarchar(40)
)
RETURNS nvarchar(max)
AS
BEGIN
    DECLARE @result nvarchar(max) = N'';
    DECLARE @position int = 0;
    DECLARE @name nvarchar(128);

    WHILE 1 = 1
    BEGIN
        SET @name = NULL;
        SELECT @name = j.[value]
        FROM OPENJSON(@names) AS j
        WHERE CAST(j.[key] AS int) = @position;

        IF @name IS NULL
            BREAK;

        SET @result = @result
            + CASE WHEN @position > 0 THEN @separator ELSE N'' END
            + REPLACE(@template, N'{}', QUOTENAME(@name));
        SET @position = @position + 1;
    END;

    RETURN @result;
END;
GO
