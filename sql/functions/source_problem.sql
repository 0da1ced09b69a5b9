IF OBJECT_ID(N'sqlkmeans.source_problem', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.source_problem (@source nvarchar(max))
        RETURNS nvarchar(400) AS BEGIN RETURN N''''; END;');
GO
-- What speaks against a text as a source; NULL for a name, or one SELECT that only reads. Between the
-- parentheses that relation() puts around it, a text whose own parentheses, quotes and comments are
-- closed can be nothing but a part of one query. The words are those that Python refuses too.
ALTER FUNCTION sqlkmeans.source_problem (@source nvarchar(max))
RETURNS nvarchar(400)
AS
BEGIN
    DECLARE @text nvarchar(max) = REPLACE(@source COLLATE Latin1_General_100_BIN2,
        NCHAR(13) + NCHAR(10), NCHAR(10)) + NCHAR(10);
    DECLARE @bare nvarchar(max) = N'';
    DECLARE @special nvarchar(20) = N'%[''"[`/();-]%';
    DECLARE @at bigint;
    DECLARE @sign nchar(1);
    DECLARE @end nchar(1);
    DECLARE @depth int = 0;
    DECLARE @comment int;
    DECLARE @pair nchar(2);
    DECLARE @word nvarchar(128);

    IF sqlkmeans.relation(@source) IS NULL
        RETURN COALESCE(LEFT(@source, 200), N'NULL')
            + N' given; allowed: a table, a view, or one SELECT';
    -- The server ends a comment at a line feed alone, and nobody reads a text behind a NUL.
    IF CHARINDEX(NCHAR(13), @text) > 0 OR CHARINDEX(NCHAR(0), @text) > 0
        RETURN N'a carriage return without a line feed, or a NUL given; allowed: text in lines';
    IF LEN(@source) > 100000
        RETURN CAST(LEN(@source) AS nvarchar(20))
            + N' characters given; allowed: 100,000; make it a view';
    -- A name that quoted_name has quoted is a name.
    IF LEFT(sqlkmeans.relation(@source), 1) <> N'('
        RETURN NULL;

    WHILE 1 = 1
    BEGIN
        SET @at = PATINDEX(@special, @text COLLATE Latin1_General_100_BIN2);
        IF @at = 0
            BREAK;
        SET @sign = SUBSTRING(@text, @at, 1);
        SET @bare = @bare + LEFT(@text, @at - 1) + N' ';
        SET @text = SUBSTRING(@text, @at + 1, LEN(@text + N'.'));

        IF @sign = N';'
            RETURN N'a semicolon given; allowed: one SELECT, without one';
        IF @sign = N'`'
            RETURN N'a backtick given; names are quoted as in [my column]';
        IF @sign = N'('
            SET @depth = @depth + 1;
        IF @sign = N')'
        BEGIN
            SET @depth = @depth - 1;
            IF @depth < 0
                RETURN N'a closing parenthesis without its opening one';
        END;
        IF @sign IN (N'''', N'"', N'[')
        BEGIN
            -- Doubled, the closing sign stands for itself: the rest opens again right behind it.
            SET @end = CASE @sign WHEN N'[' THEN N']' ELSE @sign END;
            SET @at = CHARINDEX(@end, @text COLLATE Latin1_General_100_BIN2);
            WHILE @at > 0 AND SUBSTRING(@text, @at + 1, 1) = @end COLLATE Latin1_General_100_BIN2
                SET @at = CHARINDEX(@end, @text COLLATE Latin1_General_100_BIN2, @at + 2);
            IF @at = 0
                RETURN @sign + N' opens a name or a text that is not closed';
            SET @text = SUBSTRING(@text, @at + 1, LEN(@text + N'.'));
        END;
        IF @sign = N'-' AND LEFT(@text, 1) = N'-'
            SET @text = SUBSTRING(@text, CHARINDEX(NCHAR(10), @text), LEN(@text + N'.'));
        IF @sign = N'/' AND LEFT(@text, 1) = N'*'
        BEGIN
            -- Comments nest.
            SET @comment = 1;
            SET @text = SUBSTRING(@text, 2, LEN(@text + N'.'));
            WHILE @comment > 0
            BEGIN
                SET @at = PATINDEX(N'%[*/][*/]%', @text COLLATE Latin1_General_100_BIN2);
                IF @at = 0
                    RETURN N'a comment is not closed';
                SET @pair = SUBSTRING(@text, @at, 2);
                SET @comment = @comment + CASE @pair WHEN N'/*' THEN 1 WHEN N'*/' THEN -1 ELSE 0 END;
                SET @text = SUBSTRING(
                    @text, @at + CASE WHEN @pair IN (N'/*', N'*/') THEN 2 ELSE 1 END, LEN(@text + N'.'));
            END;
        END;
    END;
    IF @depth > 0
        RETURN N'an opening parenthesis is not closed';

    SET @bare = N' ' + @bare + @text + N' ';
    SELECT TOP (1) @word = w.word
    FROM (VALUES
        (N'alter'), (N'attach'), (N'backup'), (N'begin'), (N'bulk'), (N'call'), (N'checkpoint'),
        (N'commit'), (N'copy'), (N'create'), (N'dbcc'), (N'declare'), (N'delete'), (N'deny'),
        (N'detach'), (N'drop'), (N'exec'), (N'execute'), (N'export'), (N'go'), (N'goto'), (N'grant'),
        (N'import'), (N'insert'), (N'install'), (N'into'), (N'kill'), (N'load'), (N'merge'),
        (N'opendatasource'), (N'openquery'), (N'openrowset'), (N'pragma'), (N'print'),
        (N'raiserror'), (N'reconfigure'), (N'restore'), (N'return'), (N'revoke'), (N'rollback'),
        (N'save'), (N'set'), (N'shutdown'), (N'throw'), (N'transaction'), (N'truncate'), (N'update'),
        (N'use'), (N'vacuum'), (N'waitfor'), (N'while')
    ) AS w (word)
    WHERE LOWER(@bare COLLATE Latin1_General_CI_AS) COLLATE Latin1_General_100_BIN2
        LIKE N'%[^a-z0-9_@#$]' + w.word + N'[^a-z0-9_@#$]%'
    ORDER BY w.word;
    IF @word IS NOT NULL
        RETURN @word + N' given; allowed: one SELECT that only reads (quote it if it is the name of '
            + N'a column)';

    RETURN NULL;
END;
GO
