IF OBJECT_ID(N'sqlkmeans.self_test_record') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.self_test_record () RETURNS TABLE
        AS RETURN (SELECT 1 AS segment_id);');
GO
-- What Python makes of self_test_customers: the centroids in the scaled space and, as segment 0,
-- the inertia. Written by tests/support/self_test_record.py.
ALTER FUNCTION sqlkmeans.self_test_record ()
RETURNS TABLE
AS
RETURN (
    SELECT r.segment_id, r.position, r.feature, r.scaled_value
    FROM (VALUES
        (0, 0, N'inertia', 1.5833463664260898e+02),
        (1, 1, N'income', -8.4738719395325846e-01),
        (1, 2, N'orders', -1.8242344683751825e+00),
        (1, 3, N'city = Oslo', 3.9112664368628430e-01),
        (1, 4, N'city = Bergen', -3.7548157793883369e-01),
        (1, 5, N'city = Stavanger', -2.1120838759059271e-01),
        (1, 6, N'city = oslo', 1.9556332184314179e-01),
        (2, 1, N'income', 2.3708066407017286e-01),
        (2, 2, N'orders', 1.0057060979305419e+00),
        (2, 3, N'city = Oslo', -3.9112664368628441e-01),
        (2, 4, N'city = Bergen', 7.9789835312001833e-01),
        (2, 5, N'city = Stavanger', -2.1120838759059327e-01),
        (2, 6, N'city = oslo', -1.9556332184314226e-01),
        (3, 1, N'income', 1.7628469887778868e+00),
        (3, 2, N'orders', 3.0520270240421450e+00),
        (3, 3, N'city = Oslo', -3.9112664368628436e-01),
        (3, 4, N'city = Bergen', -2.5814358483294714e-01),
        (3, 5, N'city = Stavanger', 8.4483355036237318e-01),
        (3, 6, N'city = oslo', -1.9556332184314210e-01)
    ) AS r (segment_id, position, feature, scaled_value)
);
GO
