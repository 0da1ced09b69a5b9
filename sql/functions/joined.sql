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
    -- A file with the line ends of Windows has carriage returns in its texts.
    SET @list = REPLACE(REPLACE(@list, N'&lt;', N'<'), N'&gt;', N'>');
    SET @list = REPLACE(REPLACE(@list, N'&#' + N'x0D;', NCHAR(13)), N'&amp;', N'&');

    RETURN COALESCE(STUFF(@list, 1, LEN(@separator + N'.') - 1, N''), N'');
END;
GO
