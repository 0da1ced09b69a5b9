IF OBJECT_ID(N'sqlkmeans.add_warning', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.add_warning AS RETURN 0;');
GO
-- Adds a sentence to the list of a run's warnings. Without JSON_MODIFY, whose path 'append $' not
-- every server knows.
ALTER PROCEDURE sqlkmeans.add_warning
    @run_id  bigint,
    @warning nvarchar(max)
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    UPDATE sqlkmeans.run
    SET warnings = CASE WHEN COALESCE(warnings, N'[]') = N'[]' THEN N'['
                        ELSE LEFT(warnings, LEN(warnings) - 1) + N', ' END
        + sqlkmeans.json_text(@warning) + N']'
    WHERE run_id = @run_id;
END;
GO
