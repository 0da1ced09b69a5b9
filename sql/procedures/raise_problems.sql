IF OBJECT_ID(N'sqlkmeans.raise_problems', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.raise_problems AS RETURN 0;');
GO
-- One error with every problem, a line each. Does nothing where there is none.
ALTER PROCEDURE sqlkmeans.raise_problems
    @number   int,
    @problems nvarchar(max)
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF COALESCE(@problems, N'') = N''
        RETURN 0;

    -- THROW takes 2,048 characters and reads %% as %.
    DECLARE @message nvarchar(2048) = LEFT(REPLACE(@problems, N'%', N'%%'), 2040);

    IF RIGHT(@message, 1) = NCHAR(10)
        SET @message = LEFT(@message, LEN(@message) - 1);

    THROW @number, @message, 1;
END;
GO
