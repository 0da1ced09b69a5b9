IF OBJECT_ID(N'sqlkmeans.shared_number', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.shared_number (@name nvarchar(40)) RETURNS float
        AS BEGIN RETURN NULL; END;');
GO
-- The numbers that Python's code and these procedures have to agree on; a test compares them. NULL for
-- a name that is none.
ALTER FUNCTION sqlkmeans.shared_number (@name nvarchar(40))
RETURNS float
AS
BEGIN
    RETURN CASE @name
        -- What the guard allows where a definition does not say.
        WHEN N'guard.rows' THEN 0.5e0
        WHEN N'guard.moved' THEN 0.5e0
        WHEN N'guard.psi' THEN 0.25e0
        WHEN N'guard.centroid_shift' THEN 1e0
        WHEN N'guard.distance' THEN 0.5e0
        WHEN N'guard.outliers' THEN 0.05e0
        -- Which levels of a category have a feature.
        WHEN N'min_frequency' THEN 0.01e0
        WHEN N'max_categories' THEN 20e0
        -- So many NULL, of so many rows or more, make a column useless.
        WHEN N'almost_missing' THEN 0.95e0
        WHEN N'almost_missing_rows' THEN 20e0
        -- Passes: the most, and the share of the mean variance at which those of a sample rest.
        WHEN N'max_iter' THEN 300e0
        WHEN N'tolerance' THEN 1e-4
        -- A distance that changed by less, as a share of the mean one, is not written.
        WHEN N'distance_tolerance' THEN 0.01e0
        -- An outlier is so much beyond the distance that its limit is made of.
        WHEN N'outlier_slack' THEN 1.000000001e0
        -- Bins: rows that tell their ends, and what an empty one counts as.
        WHEN N'bin_rows' THEN 20000e0
        WHEN N'least_share' THEN 1e-4
        -- How many deviations an interval of 95 % reaches, of a normal distribution.
        WHEN N'normal_quantile' THEN 1.959963984540054e0
        -- Names: how far from everyone's mean, in deviations.
        WHEN N'notable' THEN 0.5e0
        WHEN N'strong' THEN 1.5e0
    END;
END;
GO
