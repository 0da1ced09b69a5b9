IF OBJECT_ID(N'sqlkmeans.refuse_transaction', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.refuse_transaction AS RETURN 0;');
GO
-- Raises where a transaction is open, INSERT … EXECUTE included. A run's row and its labels would
-- hang on a commit that nobody here makes, and a failure could not be recorded.
ALTER PROCEDURE sqlkmeans.refuse_transaction
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @@TRANCOUNT > 0
        EXECUTE sqlkmeans.raise_problems @number = 50002,
            @problems = N'called inside a transaction, or by INSERT … EXECUTE; allowed: outside of both, because a run commits its own steps';
END;
GO
