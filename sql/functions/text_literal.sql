IF OBJECT_ID(N'sqlkmeans.text_literal', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.text_literal (@text nvarchar(max)) RETURNS nvarchar(max)
        AS BEGIN RETURN N''''; END;');
GO
-- A text as a statement writes it: on one line, and without an opening parenthesis behind a dollar
-- sign, because sqlcmd ends a batch at a line GO and puts in variables, inside texts too. By code,
-- because some collations take other signs for a quote.
ALTER FUNCTION sqlkmeans.text_literal (@text nvarchar(max))
RETURNS nvarchar(max)
AS
BEGIN
    DECLARE @result nvarchar(max) = N'';
    DECLARE @position int = 0;
    DECLARE @letter nvarchar(2);
    DECLARE @code int;
    DECLARE @before int;

    IF @text IS NULL
        RETURN NULL;

    WHILE @position < LEN(@text + N'.') - 1
    BEGIN
        SET @position = @position + 1;
        SET @letter = SUBSTRING(@text, @position, 1);
        SET @before = @code;
        SET @code = UNICODE(@letter);
        SET @result = @result + CASE
            WHEN @code = 39 THEN N''''''
            WHEN @code = 40 AND @before = 36 THEN N''' + N''('
            WHEN @code < 32 OR @code BETWEEN 127 AND 159 OR @code IN (8232, 8233)
                THEN N''' + NCHAR(' + CAST(@code AS nvarchar(10)) + N') + N'''
            ELSE @letter
        END;
    END;

    RETURN N'N''' + @result + N'''';
END;
GO
