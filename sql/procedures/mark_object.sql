IF OBJECT_ID(N'sqlkmeans.mark_object', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.mark_object AS RETURN 0;');
GO
-- Marks a table or view that was just made as one of sqlkmeans, and lets readers read it.
ALTER PROCEDURE sqlkmeans.mark_object
    @segmentation nvarchar(128),
    @target       nvarchar(1000),
    @suffix       nvarchar(20),
    @kind         nvarchar(10)
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    -- By variables: a value is sql_variant, which takes no nvarchar(max), and an argument takes no
    -- expression, which a text literal may be.
    DECLARE @statement nvarchar(max) = N'DECLARE @value nvarchar(128) = @text;
DECLARE @schema nvarchar(128) = '
        + sqlkmeans.text_literal(COALESCE(PARSENAME(@target, 2), N'dbo')) + N';
DECLARE @object nvarchar(128) = ' + sqlkmeans.text_literal(PARSENAME(@target, 1) + @suffix) + N';
EXECUTE sys.sp_addextendedproperty @name = N''sqlkmeans'', @value = @value,
    @level0type = N''SCHEMA'', @level0name = @schema,
    @level1type = N''' + @kind + N''', @level1name = @object;
GRANT SELECT ON ' + sqlkmeans.quoted_name(@target, @suffix) + N' TO sqlkmeans_reader;';

    EXECUTE sqlkmeans.as_owner @statement = @statement, @text = @segmentation;
END;
GO
