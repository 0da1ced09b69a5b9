IF OBJECT_ID(N'sqlkmeans.joined', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.joined (@list nvarchar(max), @separator nvarchar(40))
        RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- What a query of texts FOR XML PATH('') gives, each behind a separator, as it was before XML, and
-- without the first separator; nothing for no rows. An assignment that adds up over rows promises no
-- order, and STRING_AGG came with 2017.
ALTER FUNCTION sqlkmeans.joined
(
    @list      nvarchar(max),
    @separator nvarchar(40)
)
RETURNS nvarchar(max)
AS
BEGIN
    SET @list = REPLACE(REPLACE(@list, N'&lt;', N'<'), N'&gt;', N'>');
    SET @list = REPLACE(REPLACE(@list, N'&#x0D;', NCHAR(13)), N'&amp;', N'&');

    RETURN COALESCE(STUFF(@list, 1, LEN(@separator + N'.') - 1, N''), N'');
END;
GO
