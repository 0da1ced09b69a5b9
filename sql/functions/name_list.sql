IF OBJECT_ID(N'sqlkmeans.name_list', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.name_list (@list nvarchar(max)) RETURNS nvarchar(max)
        AS BEGIN RETURN N''''; END;');
GO
-- A list as JSON: as it is where it is a JSON list, else from names with commas between them. A
-- name may stand in brackets; one that holds a comma has to come as JSON. NULL for an empty list.
ALTER FUNCTION sqlkmeans.name_list (@list nvarchar(max))
RETURNS nvarchar(max)
AS
BEGIN
    DECLARE @rest nvarchar(max) = LTRIM(RTRIM(@list));
    DECLARE @result nvarchar(max) = N'';
    DECLARE @name nvarchar(max);
    DECLARE @comma int;

    IF COALESCE(@rest, N'') = N''
        RETURN NULL;
    IF LEFT(@rest, 1) = N'[' AND ISJSON(@rest) = 1
        RETURN @rest;

    WHILE @rest IS NOT NULL
    BEGIN
        SET @comma = CHARINDEX(N',', @rest);
        SET @name = LTRIM(RTRIM(CASE WHEN @comma > 0 THEN LEFT(@rest, @comma - 1) ELSE @rest END));
        SET @rest = CASE WHEN @comma > 0 THEN SUBSTRING(@rest, @comma + 1, LEN(@rest)) END;
        IF LEFT(@name, 1) = N'[' AND RIGHT(@name, 1) = N']' AND LEN(@name) > 2
            SET @name = REPLACE(SUBSTRING(@name, 2, LEN(@name) - 2), N']]', N']');
        IF @name = N''
            RETURN NULL;
        SET @result = @result + CASE WHEN @result = N'' THEN N'' ELSE N',' END
            + sqlkmeans.json_text(@name);
    END;

    RETURN N'[' + @result + N']';
END;
GO
