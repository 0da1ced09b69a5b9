IF OBJECT_ID(N'sqlkmeans.joined', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.joined (@list nvarchar(max), @separator nvarchar(40))
        RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- What a query FOR XML PATH('') of texts that have no name gives, each behind a separator, as it was
-- before XML, and without the first separator; nothing for no rows. An assignment that adds up over
-- rows promises no order, and STRING_AGG came with 2017. A text is a sum: of a function, some server
-- makes a name.
ALTER FUNCTION sqlkmeans.joined
(
    @list      nvarchar(max),
    @separator nvarchar(40)
)
RETURNS nvarchar(max)
AS
BEGIN
    DECLARE @code int = 0;
    DECLARE @digits nchar(16) = N'0123456789ABCDEF';

    -- By code: what REPLACE takes for equal depends on the collation.
    SET @list = REPLACE(REPLACE(@list COLLATE Latin1_General_100_BIN2, N'&lt;', N'<'), N'&gt;', N'>');
    -- Carriage returns, as a file with the line ends of Windows has them, and what XML does not allow.
    WHILE @code < 32 AND CHARINDEX(N'&#' + N'x', @list) > 0
    BEGIN
        SET @list = REPLACE(@list COLLATE Latin1_General_100_BIN2, N'&#' + N'x'
            + SUBSTRING(@digits, @code / 16 + 1, 1) + SUBSTRING(@digits, @code % 16 + 1, 1) + N';', NCHAR(@code));
        SET @code = @code + 1;
    END;
    SET @list = REPLACE(@list COLLATE Latin1_General_100_BIN2, N'&amp;', N'&');

    RETURN COALESCE(STUFF(@list, 1, LEN(@separator + N'.') - 1, N''), N'');
END;
GO
