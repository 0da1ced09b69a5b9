/*
sqlkmeans 0.1.0: installs or upgrades schema sqlkmeans in the current database.

Made from the files that build_order.txt names; do not edit it. May be run again: data, segment
tables and grants on procedures stay. Needs db_owner, SQL Server 2016 SP1 or newer, and
compatibility level 130 or higher for JSON.
*/
-- Procedures keep these settings of the session that makes them, and some clients have others.
SET ANSI_NULLS ON;
GO
SET QUOTED_IDENTIFIER ON;
GO

-- schema/may_install.sql
-- Stops the script before it has changed anything: no batch after SET NOEXEC ON is run, also where the
-- client goes on after an error. What an earlier version may not have yet is asked for as text.
DECLARE @newest int = N'1';
DECLARE @version int;
DECLARE @package nvarchar(64);
DECLARE @ledger bit;
DECLARE @running nvarchar(128);
DECLARE @problem nvarchar(2000);

IF EXISTS (SELECT 1 FROM sys.all_columns AS c
           WHERE c.object_id = OBJECT_ID(N'sys.databases') AND c.name = N'is_ledger_on')
    EXECUTE sys.sp_executesql
        N'SELECT @ledger = d.is_ledger_on FROM sys.databases AS d WHERE d.name = DB_NAME();',
        N'@ledger bit OUTPUT', @ledger = @ledger OUTPUT;
IF OBJECT_ID(N'sqlkmeans.schema_version', N'U') IS NOT NULL
    EXECUTE sys.sp_executesql
        N'SELECT TOP (1) @version = v.version, @package = v.package_version
          FROM sqlkmeans.schema_version AS v ORDER BY v.version DESC;',
        N'@version int OUTPUT, @package nvarchar(64) OUTPUT',
        @version = @version OUTPUT, @package = @package OUTPUT;
IF OBJECT_ID(N'sqlkmeans.lock_name', N'FN') IS NOT NULL AND OBJECT_ID(N'sqlkmeans.run', N'U') IS NOT NULL
    EXECUTE sys.sp_executesql
        N'SELECT @running = MIN(r.segmentation)
          FROM sqlkmeans.run AS r
          WHERE r.status = N''running''
            AND APPLOCK_TEST(N''sqlkmeans_operator'', sqlkmeans.lock_name(r.segmentation),
                             N''Exclusive'', N''Session'') = 0;',
        N'@running nvarchar(128) OUTPUT', @running = @running OUTPUT;

BEGIN TRY
    EXECUTE (N'DECLARE @n int; SELECT @n = COUNT(*) FROM OPENJSON(N''{"a":1}'') WITH (a int ''$.a'') AS j;');
END TRY
BEGIN CATCH
    SET @problem = N'this database has no JSON; it needs compatibility level 130: '
        + N'ALTER DATABASE CURRENT SET COMPATIBILITY_LEVEL = 130';
END CATCH;

IF @problem IS NULL AND @ledger = 1
    SET @problem = N'this is a ledger database: every table in it is a ledger table, which keeps all '
        + N'that was ever in it and cannot be loaded as segment tables are; install sqlkmeans in another';
ELSE IF @problem IS NULL AND @version > @newest
    SET @problem = N'schema sqlkmeans is at version ' + CAST(@version AS nvarchar(10))
        + N', of sqlkmeans ' + @package + N', and this script brings it to ' + CAST(@newest AS nvarchar(10))
        + N' only; take the script of that release or of a newer one';
ELSE IF @problem IS NULL AND @running IS NOT NULL
    SET @problem = @running + N' is being run; install when it has ended';

IF @problem IS NOT NULL
BEGIN
    SET @problem = @problem + N'. Nothing was changed';
    RAISERROR (N'%s', 16, 1, @problem);
    SET NOEXEC ON;
END;
GO

-- schema/sqlkmeans.sql
-- Owned by dbo, so that an ownership chain leads from its procedures to its tables.
IF SCHEMA_ID(N'sqlkmeans') IS NULL
    EXECUTE (N'CREATE SCHEMA sqlkmeans AUTHORIZATION dbo;');
GO

-- tables/schema_version.sql
IF OBJECT_ID(N'sqlkmeans.schema_version', N'U') IS NULL
    CREATE TABLE sqlkmeans.schema_version
    (
        version         int          NOT NULL,
        package_version nvarchar(64) NOT NULL,
        applied_at      datetime2(6) NOT NULL
            CONSTRAINT df_schema_version_applied_at DEFAULT (SYSUTCDATETIME()),
        CONSTRAINT pk_schema_version PRIMARY KEY CLUSTERED (version)
    );
GO

-- tables/segmentation.sql
IF OBJECT_ID(N'sqlkmeans.segmentation', N'U') IS NULL
    CREATE TABLE sqlkmeans.segmentation
    (
        name            nvarchar(128) NOT NULL,
        definition      nvarchar(max) NOT NULL,
        target          nvarchar(400) NOT NULL,
        active_run_id   bigint        NULL,
        last_segment_id int           NOT NULL
            CONSTRAINT df_segmentation_last_segment_id DEFAULT (0),
        created_at      datetime2(6)  NOT NULL,
        updated_at      datetime2(6)  NOT NULL,
        CONSTRAINT pk_segmentation PRIMARY KEY CLUSTERED (name)
    );
GO

-- tables/run.sql
IF OBJECT_ID(N'sqlkmeans.run', N'U') IS NULL
    CREATE TABLE sqlkmeans.run
    (
        run_id            bigint        IDENTITY (1, 1) NOT NULL,
        segmentation      nvarchar(128) NOT NULL,
        kind              nvarchar(16)  NOT NULL,
        status            nvarchar(16)  NOT NULL,
        engine            nvarchar(32)  NOT NULL,
        definition        nvarchar(max) NOT NULL,
        model_run_id      bigint        NULL,
        restored_run_id   bigint        NULL,
        k                 int           NULL,
        [rows]            bigint        NULL,
        skipped           bigint        NULL,
        changed           bigint        NULL,
        arrived           bigint        NULL,
        moved             bigint        NULL,
        departed          bigint        NULL,
        written           bigint        NULL,
        inertia           float         NULL,
        n_iter            int           NULL,
        silhouette        float         NULL,
        davies_bouldin    float         NULL,
        calinski_harabasz float         NULL,
        seconds_read      float         NULL,
        seconds_fit       float         NULL,
        seconds_assign    float         NULL,
        seconds_publish   float         NULL,
        seconds_total     float         NULL,
        started_at        datetime2(6)  NOT NULL,
        published_at      datetime2(6)  NULL,
        finished_at       datetime2(6)  NULL,
        sqlkmeans_version nvarchar(64)  NOT NULL,
        library_versions  nvarchar(max) NULL,
        client            nvarchar(400) NULL,
        warnings          nvarchar(max) NULL,
        error             nvarchar(max) NULL,
        compared_run_id   bigint        NULL,
        psi               float         NULL,
        centroid_shift    float         NULL,
        mean_distance     float         NULL,
        recommendation    nvarchar(max) NULL,
        high_water        nvarchar(100) NULL,
        outliers          bigint        NULL,
        CONSTRAINT pk_run PRIMARY KEY CLUSTERED (run_id),
        CONSTRAINT ck_run_kind CHECK (kind IN (N'fit', N'assign', N'rollback', N'choose_k')),
        CONSTRAINT ck_run_status CHECK (status IN (N'running', N'published', N'failed', N'finished'))
    );
GO
-- Who looks for a segmentation's runs, or its last publication, meets no row that another one's run
-- has locked. Some server adds to the name of an index.
IF NOT EXISTS (SELECT 1 FROM sys.indexes AS i
               WHERE i.object_id = OBJECT_ID(N'sqlkmeans.run', N'U') AND i.name LIKE N'ix_run_segmentation%')
    CREATE INDEX ix_run_segmentation ON sqlkmeans.run (segmentation, status, published_at);
GO

-- tables/model_feature.sql
IF OBJECT_ID(N'sqlkmeans.model_feature', N'U') IS NULL
    CREATE TABLE sqlkmeans.model_feature
    (
        run_id         bigint        NOT NULL,
        position       int           NOT NULL,
        feature        nvarchar(400) NOT NULL,
        transform      nvarchar(16)  NOT NULL,
        weight         float         NOT NULL,
        center         float         NOT NULL,
        scale          float         NOT NULL,
        fill           float         NULL,
        source_column  nvarchar(128) NULL,
        type           nvarchar(16)  NOT NULL
            CONSTRAINT df_model_feature_type DEFAULT (N'number'),
        level          nvarchar(400) NULL,
        low            float         NULL,
        high           float         NULL,
        reference_date date          NULL,
        CONSTRAINT pk_model_feature PRIMARY KEY CLUSTERED (run_id, position)
    );
GO

-- tables/centroid.sql
IF OBJECT_ID(N'sqlkmeans.centroid', N'U') IS NULL
    CREATE TABLE sqlkmeans.centroid
    (
        run_id           bigint        NOT NULL,
        segment_id       int           NOT NULL,
        position         int           NOT NULL,
        feature          nvarchar(400) NOT NULL,
        value            float         NOT NULL,
        scaled_value     float         NOT NULL,
        outlier_distance float         NULL,
        CONSTRAINT pk_centroid PRIMARY KEY CLUSTERED (run_id, segment_id, position)
    );
GO

-- tables/segment.sql
IF OBJECT_ID(N'sqlkmeans.segment', N'U') IS NULL
    CREATE TABLE sqlkmeans.segment
    (
        run_id         bigint        NOT NULL,
        segment_id     int           NOT NULL,
        name           nvarchar(400) NOT NULL,
        name_source    nvarchar(16)  NOT NULL,
        description    nvarchar(max) NOT NULL,
        size           bigint        NOT NULL,
        share          float         NOT NULL,
        within_ss      float         NOT NULL,
        [rule]         nvarchar(max) NULL,
        rule_precision float         NULL,
        rule_coverage  float         NULL,
        silhouette     float         NULL,
        centroid_shift float         NULL,
        outliers       bigint        NULL,
        CONSTRAINT pk_segment PRIMARY KEY CLUSTERED (run_id, segment_id)
    );
GO

-- tables/segment_feature.sql
IF OBJECT_ID(N'sqlkmeans.segment_feature', N'U') IS NULL
    CREATE TABLE sqlkmeans.segment_feature
    (
        run_id     bigint        NOT NULL,
        segment_id int           NOT NULL,
        position   int           NOT NULL,
        feature    nvarchar(400) NOT NULL,
        mean       float         NULL,
        deviation  float         NULL,
        [min]      float         NULL,
        median     float         NULL,
        [max]      float         NULL,
        missing    bigint        NOT NULL,
        importance float         NOT NULL,
        CONSTRAINT pk_segment_feature PRIMARY KEY CLUSTERED (run_id, segment_id, position)
    );
GO

-- tables/segment_profile.sql
IF OBJECT_ID(N'sqlkmeans.segment_profile', N'U') IS NULL
    CREATE TABLE sqlkmeans.segment_profile
    (
        run_id          bigint        NOT NULL,
        segment_id      int           NOT NULL,
        position        int           NOT NULL,
        source_column   nvarchar(128) NOT NULL,
        type            nvarchar(16)  NOT NULL,
        level           nvarchar(400) NULL,
        known           bigint        NOT NULL,
        missing         bigint        NOT NULL,
        mean            float         NULL,
        deviation       float         NULL,
        median          float         NULL,
        share           float         NULL,
        difference      float         NULL,
        difference_low  float         NULL,
        difference_high float         NULL,
        CONSTRAINT pk_segment_profile PRIMARY KEY CLUSTERED (run_id, segment_id, position)
    );
GO

-- tables/typical_customer.sql
IF OBJECT_ID(N'sqlkmeans.typical_customer', N'U') IS NULL
    CREATE TABLE sqlkmeans.typical_customer
    (
        run_id     bigint        NOT NULL,
        segment_id int           NOT NULL,
        [rank]     int           NOT NULL,
        customer   nvarchar(max) NOT NULL,
        distance   float         NOT NULL,
        CONSTRAINT pk_typical_customer PRIMARY KEY CLUSTERED (run_id, segment_id, [rank])
    );
GO

-- tables/feature_bin.sql
IF OBJECT_ID(N'sqlkmeans.feature_bin', N'U') IS NULL
    CREATE TABLE sqlkmeans.feature_bin
    (
        run_id    bigint        NOT NULL,
        position  int           NOT NULL,
        bin       int           NOT NULL,
        feature   nvarchar(400) NOT NULL,
        label     nvarchar(400) NOT NULL,
        upper     float         NULL,
        customers bigint        NOT NULL,
        CONSTRAINT pk_feature_bin PRIMARY KEY CLUSTERED (run_id, position, bin)
    );
GO

-- tables/feature_drift.sql
IF OBJECT_ID(N'sqlkmeans.feature_drift', N'U') IS NULL
    CREATE TABLE sqlkmeans.feature_drift
    (
        run_id                 bigint        NOT NULL,
        position               int           NOT NULL,
        feature                nvarchar(400) NOT NULL,
        psi                    float         NOT NULL,
        mean                   float         NULL,
        previous_mean          float         NULL,
        missing_share          float         NOT NULL,
        previous_missing_share float         NOT NULL,
        CONSTRAINT pk_feature_drift PRIMARY KEY CLUSTERED (run_id, position)
    );
GO

-- tables/k_score.sql
IF OBJECT_ID(N'sqlkmeans.k_score', N'U') IS NULL
    CREATE TABLE sqlkmeans.k_score
    (
        run_id                bigint NOT NULL,
        k                     int    NOT NULL,
        inertia               float  NOT NULL,
        silhouette            float  NULL,
        simplified_silhouette float  NULL,
        davies_bouldin        float  NULL,
        calinski_harabasz     float  NULL,
        gap                   float  NULL,
        gap_error             float  NULL,
        separation            float  NULL,
        separation_error      float  NULL,
        stability             float  NULL,
        smallest_share        float  NULL,
        recommended           bit    NOT NULL,
        CONSTRAINT pk_k_score PRIMARY KEY CLUSTERED (run_id, k)
    );
GO

-- migrations/0001_first_version.sql
-- A migration changes tables that an earlier version made, keeps their data, runs once, and
-- records itself here. sql/tables makes the newest shape, so on a new database there is nothing
-- to change.
IF NOT EXISTS (SELECT 1 FROM sqlkmeans.schema_version AS v WHERE v.version = 1)
    INSERT INTO sqlkmeans.schema_version (version, package_version)
    VALUES (1, N'0.1.0');
GO

-- roles/sqlkmeans_reader.sql
-- Reads segmentations, runs, models and segments; publishing adds the segment tables.
IF DATABASE_PRINCIPAL_ID(N'sqlkmeans_reader') IS NULL
    CREATE ROLE sqlkmeans_reader;
GO

-- roles/sqlkmeans_operator.sql
-- Runs segmentations. Reads a source with the caller's own permissions.
IF DATABASE_PRINCIPAL_ID(N'sqlkmeans_operator') IS NULL
    CREATE ROLE sqlkmeans_operator;
GO

-- roles/sqlkmeans_admin.sql
-- Defines, schedules and purges segmentations.
IF DATABASE_PRINCIPAL_ID(N'sqlkmeans_admin') IS NULL
    CREATE ROLE sqlkmeans_admin;
GO

-- functions/version.sql
IF OBJECT_ID(N'sqlkmeans.version', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.version () RETURNS nvarchar(64) AS BEGIN RETURN N''''; END;');
GO
-- The version of the package that installed these objects.
ALTER FUNCTION sqlkmeans.version ()
RETURNS nvarchar(64)
AS
BEGIN
    RETURN N'0.1.0';
END;
GO

-- functions/is_plain_name.sql
IF OBJECT_ID(N'sqlkmeans.is_plain_name', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.is_plain_name (@name nvarchar(128)) RETURNS bit
        AS BEGIN RETURN 0; END;');
GO
-- Whether a name is a letter or underscore, then letters, digits and underscores, all of ASCII.
-- By code, because a range such as a-z holds other letters too in most collations.
ALTER FUNCTION sqlkmeans.is_plain_name (@name nvarchar(128))
RETURNS bit
AS
BEGIN
    DECLARE @position int = 0;
    DECLARE @code int;

    IF COALESCE(@name, N'') = N''
        RETURN 0;

    WHILE @position < LEN(@name + N'.') - 1
    BEGIN
        SET @position = @position + 1;
        SET @code = UNICODE(SUBSTRING(@name, @position, 1));
        IF NOT (@code BETWEEN 65 AND 90 OR @code BETWEEN 97 AND 122 OR @code = 95
                OR (@code BETWEEN 48 AND 57 AND @position > 1))
            RETURN 0;
    END;

    RETURN 1;
END;
GO

-- functions/is_visible.sql
IF OBJECT_ID(N'sqlkmeans.is_visible', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.is_visible (@name nvarchar(400)) RETURNS bit
        AS BEGIN RETURN 0; END;');
GO
-- Whether a name has no control or format character, which nobody sees and which a terminal obeys.
-- By code, because ranges of characters are not those of every collation.
ALTER FUNCTION sqlkmeans.is_visible (@name nvarchar(400))
RETURNS bit
AS
BEGIN
    DECLARE @position int = 0;
    DECLARE @code int;

    WHILE @position < LEN(@name + N'.') - 1
    BEGIN
        SET @position = @position + 1;
        SET @code = UNICODE(SUBSTRING(@name, @position, 1));
        IF @code < 32 OR @code BETWEEN 127 AND 159 OR @code = 173 OR @code BETWEEN 8203 AND 8207
           OR @code BETWEEN 8232 AND 8238 OR @code BETWEEN 8288 AND 8303 OR @code = 65279
            RETURN 0;
    END;

    RETURN 1;
END;
GO

-- functions/each_name.sql
IF OBJECT_ID(N'sqlkmeans.each_name', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.each_name (@names nvarchar(max), @template nvarchar(max),
        @separator nvarchar(40)) RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- For every name of a JSON list, in its order: the template with {} replaced by the quoted name.
ALTER FUNCTION sqlkmeans.each_name
(
    @names     nvarchar(max),
    @template  nvarchar(max),
    @separator nvarchar(40)
)
RETURNS nvarchar(max)
AS
BEGIN
    DECLARE @result nvarchar(max) = N'';
    DECLARE @position int = 0;
    DECLARE @name nvarchar(128);

    WHILE 1 = 1
    BEGIN
        SET @name = NULL;
        SELECT @name = j.[value]
        FROM OPENJSON(@names) AS j
        WHERE CAST(j.[key] AS int) = @position;

        IF @name IS NULL
            BREAK;

        SET @result = @result
            + CASE WHEN @position > 0 THEN @separator ELSE N'' END
            + REPLACE(@template, N'{}', QUOTENAME(@name));
        SET @position = @position + 1;
    END;

    RETURN @result;
END;
GO

-- functions/json_text.sql
IF OBJECT_ID(N'sqlkmeans.json_text', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.json_text (@text nvarchar(max)) RETURNS nvarchar(max)
        AS BEGIN RETURN N''''; END;');
GO
-- A text as JSON writes it, quotes included; null for NULL. STRING_ESCAPE is not the same on every
-- server for letters outside ASCII.
ALTER FUNCTION sqlkmeans.json_text (@text nvarchar(max))
RETURNS nvarchar(max)
AS
BEGIN
    DECLARE @result nvarchar(max) = N'';
    DECLARE @position int = 0;
    DECLARE @letter nvarchar(2);
    DECLARE @code int;

    IF @text IS NULL
        RETURN N'null';

    -- A letter at a time and by code: what REPLACE takes for equal depends on the collation.
    WHILE @position < LEN(@text + N'.') - 1
    BEGIN
        SET @position = @position + 1;
        SET @letter = SUBSTRING(@text, @position, 1);
        SET @code = UNICODE(@letter);
        SET @result = @result + CASE
            WHEN @code IN (34, 92) THEN N'\' + @letter
            WHEN @code < 32 THEN N'\u00' + CASE WHEN @code > 15 THEN N'1' ELSE N'0' END
                + SUBSTRING(N'0123456789abcdef', @code % 16 + 1, 1)
            ELSE @letter
        END;
    END;

    RETURN N'"' + @result + N'"';
END;
GO

-- functions/json_lines.sql
IF OBJECT_ID(N'sqlkmeans.json_lines', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.json_lines (@lines nvarchar(max))
        RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- Lines, each with its end, as a JSON list of texts.
ALTER FUNCTION sqlkmeans.json_lines (@lines nvarchar(max))
RETURNS nvarchar(max)
AS
BEGIN
    DECLARE @list nvarchar(max) = N'';

    WHILE CHARINDEX(NCHAR(10), @lines) > 0
    BEGIN
        SET @list = @list + CASE WHEN @list = N'' THEN N'' ELSE N',' END
            + sqlkmeans.json_text(LEFT(@lines, CHARINDEX(NCHAR(10), @lines) - 1));
        SET @lines = SUBSTRING(@lines, CHARINDEX(NCHAR(10), @lines) + 1, LEN(@lines));
    END;

    RETURN N'[' + @list + N']';
END;
GO

-- functions/json_number.sql
IF OBJECT_ID(N'sqlkmeans.json_number', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.json_number (@text nvarchar(100)) RETURNS nvarchar(100)
        AS BEGIN RETURN N''''; END;');
GO
-- A number as JSON writes it: as it came where that is JSON, which .5 and +2 are not. NULL for what
-- is no number.
ALTER FUNCTION sqlkmeans.json_number (@text nvarchar(100))
RETURNS nvarchar(100)
AS
BEGIN
    IF COALESCE(LTRIM(@text), N'') = N'' OR TRY_CAST(@text AS float) IS NULL
        RETURN NULL;
    IF ISJSON(N'[' + @text + N']') = 1
        RETURN @text;
    RETURN LTRIM(RTRIM(CONVERT(nvarchar(40), CAST(@text AS float), 3)));
END;
GO

-- functions/text_literal.sql
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

-- functions/quantiles.sql
IF OBJECT_ID(N'sqlkmeans.quantiles', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.quantiles (@list nvarchar(max)) RETURNS nvarchar(max)
        AS BEGIN RETURN N''''; END;');
GO
-- A JSON list of two quantiles, the lower first; NULL for what is not one.
ALTER FUNCTION sqlkmeans.quantiles (@list nvarchar(max))
RETURNS nvarchar(max)
AS
BEGIN
    DECLARE @numbers int;
    DECLARE @others int;
    DECLARE @low nvarchar(100);
    DECLARE @high nvarchar(100);

    IF @list IS NULL OR LEFT(LTRIM(@list), 1) <> N'[' OR ISJSON(@list) = 0
        RETURN NULL;

    SELECT @numbers = COUNT(CASE WHEN j.[type] = 2 THEN 1 END),
        @others = COUNT(CASE WHEN j.[type] <> 2 THEN 1 END),
        @low = MAX(CASE WHEN j.[key] = N'0' THEN LEFT(j.[value], 100) END),
        @high = MAX(CASE WHEN j.[key] = N'1' THEN LEFT(j.[value], 100) END)
    FROM OPENJSON(@list) AS j;

    IF @numbers <> 2 OR @others <> 0 OR TRY_CAST(@low AS float) < 0
       OR TRY_CAST(@high AS float) > 1 OR TRY_CAST(@low AS float) >= TRY_CAST(@high AS float)
        RETURN NULL;

    RETURN N'[' + @low + N',' + @high + N']';
END;
GO

-- functions/name_list.sql
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

-- functions/quoted_name.sql
IF OBJECT_ID(N'sqlkmeans.quoted_name', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.quoted_name (@name nvarchar(1000), @suffix nvarchar(20))
        RETURNS nvarchar(1000) AS BEGIN RETURN N''''; END;');
GO
-- A name of one to three parts, each quoted; NULL if it is not such a name. One part alone is in
-- schema dbo, whoever asks. The suffix is added to the last part.
ALTER FUNCTION sqlkmeans.quoted_name
(
    @name   nvarchar(1000),
    @suffix nvarchar(20)
)
RETURNS nvarchar(1000)
AS
BEGIN
    IF PARSENAME(@name, 1) IS NULL OR PARSENAME(@name, 4) IS NOT NULL
        RETURN NULL;

    RETURN COALESCE(QUOTENAME(PARSENAME(@name, 3)) + N'.', N'')
        + QUOTENAME(COALESCE(PARSENAME(@name, 2), N'dbo'))
        + N'.' + QUOTENAME(PARSENAME(@name, 1) + @suffix);
END;
GO

-- functions/relation.sql
IF OBJECT_ID(N'sqlkmeans.relation', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.relation (@source nvarchar(max)) RETURNS nvarchar(max)
        AS BEGIN RETURN N''''; END;');
GO
-- What stands after FROM for a source: a quoted name, or a SELECT in parentheses on lines of its
-- own, so that a comment at its end ends with it. NULL for what is neither.
ALTER FUNCTION sqlkmeans.relation (@source nvarchar(max))
RETURNS nvarchar(max)
AS
BEGIN
    DECLARE @text nvarchar(max) = @source;
    DECLARE @blank nvarchar(10) = N' ' + NCHAR(9) + NCHAR(10) + NCHAR(13);

    -- Comments may stand before the SELECT.
    WHILE 1 = 1
    BEGIN
        WHILE LEN(@text) > 0 AND CHARINDEX(LEFT(@text, 1), @blank) > 0
            SET @text = SUBSTRING(@text, 2, LEN(@text));

        IF LEFT(@text, 2) = N'--' AND CHARINDEX(NCHAR(10), @text) > 0
            SET @text = SUBSTRING(@text, CHARINDEX(NCHAR(10), @text) + 1, LEN(@text));
        ELSE IF LEFT(@text, 2) = N'/*' AND CHARINDEX(N'*/', @text) > 0
            SET @text = SUBSTRING(@text, CHARINDEX(N'*/', @text) + 2, LEN(@text));
        ELSE
            BREAK;
    END;

    IF LOWER(LEFT(@text, 6)) = N'select'
       AND SUBSTRING(@text, 7, 1) NOT LIKE N'[a-zA-Z0-9_@#$.]'
        RETURN N'(' + NCHAR(10) + @text + NCHAR(10) + N') AS s';

    RETURN sqlkmeans.quoted_name(@text, N'') + N' AS s';
END;
GO

-- functions/source_problem.sql
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

-- functions/has_unique_key.sql
IF OBJECT_ID(N'sqlkmeans.has_unique_key', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.has_unique_key (@source nvarchar(max), @key nvarchar(max))
        RETURNS bit AS BEGIN RETURN 0; END;');
GO
-- Whether the server itself sees to it that one statement reads each key of a source once, and none
-- that is NULL: a table of this database with a unique index on columns of the key, which are never
-- NULL, where readers get row versions. With locks alone a row that an update moves ahead of the scan
-- is read twice, whatever its index.
ALTER FUNCTION sqlkmeans.has_unique_key
(
    @source nvarchar(max),
    @key    nvarchar(max)
)
RETURNS bit
AS
BEGIN
    DECLARE @relation nvarchar(max) = sqlkmeans.relation(@source);
    DECLARE @table_id int = NULL;
    DECLARE @result bit = 0;

    -- A query stands in parentheses.
    IF LEFT(@relation, 1) = N'['
    BEGIN
        SET @relation = LEFT(@relation, LEN(@relation) - LEN(N' AS s'));
        IF PARSENAME(@relation, 3) IS NULL
            SET @table_id = OBJECT_ID(@relation, N'U');
    END;

    IF NOT EXISTS (SELECT 1 FROM OPENJSON(@key) AS j
                   WHERE COALESCE(COLUMNPROPERTY(@table_id, CAST(j.[value] AS nvarchar(128)), N'AllowsNull'), 1) = 1)
        SELECT @result = 1
        FROM sys.databases AS d
        WHERE d.name = DB_NAME() AND d.is_read_committed_snapshot_on = 1 AND EXISTS (
            SELECT 1
            FROM sys.indexes AS i
            WHERE i.object_id = @table_id AND i.is_unique = 1 AND i.is_disabled = 0
              AND i.has_filter = 0 AND i.is_hypothetical = 0 AND i.type IN (1, 2, 7)
              AND NOT EXISTS (
                  SELECT 1
                  FROM sys.index_columns AS x
                  WHERE x.object_id = i.object_id AND x.index_id = i.index_id AND x.key_ordinal > 0
                    AND NOT EXISTS (
                        SELECT 1 FROM OPENJSON(@key) AS j
                        WHERE COLUMNPROPERTY(@table_id, CAST(j.[value] AS nvarchar(128)), N'ColumnId')
                            = x.column_id)));

    RETURN @result;
END;
GO

-- functions/type_text.sql
IF OBJECT_ID(N'sqlkmeans.type_text', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.type_text (@type nvarchar(128), @max_length int,
        @precision int, @scale int, @collation nvarchar(128)) RETURNS nvarchar(400)
        AS BEGIN RETURN N''''; END;');
GO
-- A column's type as CREATE TABLE writes it; NULL where it cannot be a key.
ALTER FUNCTION sqlkmeans.type_text
(
    @type       nvarchar(128),
    @max_length int,
    @precision  int,
    @scale      int,
    @collation  nvarchar(128)
)
RETURNS nvarchar(400)
AS
BEGIN
    IF @max_length = -1
        RETURN NULL;

    RETURN CASE
        WHEN @type IN (N'bigint', N'int', N'smallint', N'tinyint', N'bit', N'money', N'smallmoney',
                       N'date', N'datetime', N'smalldatetime', N'uniqueidentifier')
            THEN @type
        WHEN @type IN (N'decimal', N'numeric')
            THEN @type + N'(' + CAST(@precision AS nvarchar(5)) + N', '
                + CAST(@scale AS nvarchar(5)) + N')'
        WHEN @type IN (N'datetime2', N'datetimeoffset', N'time')
            THEN @type + N'(' + CAST(@scale AS nvarchar(5)) + N')'
        WHEN @type IN (N'binary', N'varbinary')
            THEN @type + N'(' + CAST(@max_length AS nvarchar(5)) + N')'
        WHEN @type IN (N'char', N'varchar')
            THEN @type + N'(' + CAST(@max_length AS nvarchar(5)) + N') COLLATE ' + @collation
        WHEN @type IN (N'nchar', N'nvarchar')
            THEN @type + N'(' + CAST(@max_length / 2 AS nvarchar(5)) + N') COLLATE ' + @collation
    END;
END;
GO

-- functions/lock_name.sql
IF OBJECT_ID(N'sqlkmeans.lock_name', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.lock_name (@segmentation nvarchar(128))
        RETURNS nvarchar(255) AS BEGIN RETURN NULL; END;');
GO
-- The name of a segmentation's application lock. Such names are compared byte by byte, whatever the
-- collation of the names in the table. sys.dm_tran_locks shows the first 32 characters, so the
-- segmentation comes first; the database comes last, because not every server keeps the locks of
-- its databases apart.
ALTER FUNCTION sqlkmeans.lock_name (@segmentation nvarchar(128))
RETURNS nvarchar(255)
AS
BEGIN
    RETURN N'sqlkmeans:' + LOWER(@segmentation) + N':' + DB_NAME();
END;
GO

-- functions/job_name.sql
IF OBJECT_ID(N'sqlkmeans.job_name', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.job_name (@segmentation nvarchar(128), @step nvarchar(20))
        RETURNS nvarchar(400) AS BEGIN RETURN NULL; END;');
GO
-- The name of the Agent job of a segmentation and a step; without a segmentation, of the database and
-- a step. Agent takes 128 characters.
ALTER FUNCTION sqlkmeans.job_name (@segmentation nvarchar(128), @step nvarchar(20))
RETURNS nvarchar(400)
AS
BEGIN
    RETURN N'sqlkmeans: ' + DB_NAME() + COALESCE(N'.' + @segmentation, N'') + N' (' + @step + N')';
END;
GO

-- functions/publication_time.sql
IF OBJECT_ID(N'sqlkmeans.publication_time', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.publication_time (@segmentation nvarchar(128))
        RETURNS datetime2(6) AS BEGIN RETURN NULL; END;');
GO
-- Now, but later than the last publication, so that "as of" tells the two apart.
ALTER FUNCTION sqlkmeans.publication_time (@segmentation nvarchar(128))
RETURNS datetime2(6)
AS
BEGIN
    DECLARE @now datetime2(6) = SYSUTCDATETIME();
    DECLARE @last datetime2(6);

    SELECT @last = MAX(r.published_at)
    FROM sqlkmeans.run AS r
    WHERE r.segmentation = @segmentation AND r.status = N'published';

    RETURN CASE WHEN @now <= @last THEN DATEADD(microsecond, 1, @last) ELSE @now END;
END;
GO

-- functions/own_ids.sql
IF OBJECT_ID(N'sqlkmeans.own_ids', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.own_ids (@last int) RETURNS nvarchar(max)
        AS BEGIN RETURN N''''; END;');
GO
-- The JSON list 0, 1, 2 … @last: segment_ids for labels that are staged under their segment ids.
ALTER FUNCTION sqlkmeans.own_ids (@last int)
RETURNS nvarchar(max)
AS
BEGIN
    DECLARE @list nvarchar(max) = N'[0';
    DECLARE @id int = 0;

    WHILE @id < @last
    BEGIN
        SET @id = @id + 1;
        SET @list = @list + N',' + CAST(@id AS nvarchar(10));
    END;

    RETURN @list + N']';
END;
GO

-- functions/outlier_distances.sql
IF OBJECT_ID(N'sqlkmeans.outlier_distances', N'IF') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.outlier_distances (@publication nvarchar(max)) RETURNS TABLE
        AS RETURN (SELECT 1 AS segment_id);');
GO
-- The distance of each segment beyond which a customer is an outlier: what a publication says, else
-- what the model has that it names. No row for a segment without one.
ALTER FUNCTION sqlkmeans.outlier_distances (@publication nvarchar(max))
RETURNS TABLE
AS
RETURN
(
    SELECT CAST(j.[key] AS int) AS segment_id, CAST(j.[value] AS float) AS outlier_distance
    FROM OPENJSON(@publication, '$.outlier_distances') AS j
    UNION ALL
    SELECT c.segment_id, c.outlier_distance
    FROM sqlkmeans.centroid AS c
    WHERE c.run_id = CAST(JSON_VALUE(@publication, '$.model_run_id') AS bigint)
      AND c.position = 1 AND c.outlier_distance IS NOT NULL
      AND JSON_QUERY(@publication, '$.outlier_distances') IS NULL
);
GO

-- functions/own_value.sql
IF OBJECT_ID(N'sqlkmeans.own_value', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.own_value (@run_id bigint, @position int,
        @value nvarchar(400)) RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- A feature of a model in its own units, as an expression over @value, the text of its column: a
-- number, a date's age in days, 1 or 0 for a category's level; pulled in to the feature's limits,
-- and NULL where the column is.
ALTER FUNCTION sqlkmeans.own_value
(
    @run_id   bigint,
    @position int,
    @value    nvarchar(400)
)
RETURNS nvarchar(max)
AS
BEGIN
    DECLARE @type nvarchar(16);
    DECLARE @column nvarchar(400);
    DECLARE @level nvarchar(400);
    DECLARE @levels nvarchar(max) = N'';
    DECLARE @low nvarchar(40);
    DECLARE @high nvarchar(40);
    DECLARE @date nvarchar(10);
    DECLARE @own nvarchar(max) = @value;
    DECLARE @other int = 0;

    SELECT @type = f.type, @column = f.source_column, @level = f.level,
        @low = LTRIM(RTRIM(CONVERT(nvarchar(40), f.low, 3))),
        @high = LTRIM(RTRIM(CONVERT(nvarchar(40), f.high, 3))),
        @date = CONVERT(nvarchar(10), f.reference_date, 112)
    FROM sqlkmeans.model_feature AS f
    WHERE f.run_id = @run_id AND f.position = @position;

    IF @type = N'category'
    BEGIN
        -- The level itself or, for all the rest, the levels that have a feature of their own.
        WHILE @level IS NULL AND @other IS NOT NULL
        BEGIN
            SELECT @other = MIN(f.position)
            FROM sqlkmeans.model_feature AS f
            WHERE f.run_id = @run_id AND f.position > @other AND f.source_column = @column
              AND f.level IS NOT NULL;
            SELECT @levels = @levels + CASE WHEN @levels = N'' THEN N'' ELSE N', ' END
                + sqlkmeans.text_literal(f.level + N'.')
            FROM sqlkmeans.model_feature AS f
            WHERE f.run_id = @run_id AND f.position = @other;
        END;
        IF @level IS NOT NULL
            SET @levels = sqlkmeans.text_literal(@level + N'.');

        -- With a full stop behind both, blanks at the end count too.
        RETURN N'CASE WHEN ' + @value + N' IS NULL THEN NULL WHEN (' + @value
            + N' + N''.'') COLLATE Latin1_General_100_BIN2 IN (' + @levels + N') THEN '
            + CASE WHEN @level IS NULL THEN N'0e0 ELSE 1e0 END' ELSE N'1e0 ELSE 0e0 END' END;
    END;

    IF @type = N'date'
        SET @own = N'CAST(DATEDIFF(day, ' + @value + N', ''' + @date + N''') AS float)';

    RETURN CASE WHEN @low IS NULL THEN N'' ELSE N'CASE WHEN ' + @own + N' < ' + @low + N' THEN '
               + @low + N' WHEN ' + @own + N' > ' + @high + N' THEN ' + @high + N' ELSE ' END
        + @own + CASE WHEN @low IS NULL THEN N'' ELSE N' END' END;
END;
GO

-- functions/profile_type.sql
IF OBJECT_ID(N'sqlkmeans.profile_type', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.profile_type (@type nvarchar(128)) RETURNS nvarchar(16)
        AS BEGIN RETURN NULL; END;');
GO
-- As what a profile column of a type is described; NULL for a type that is not.
ALTER FUNCTION sqlkmeans.profile_type (@type nvarchar(128))
RETURNS nvarchar(16)
AS
BEGIN
    RETURN CASE
        WHEN @type = N'bit' THEN N'boolean'
        WHEN @type IN (N'bigint', N'int', N'smallint', N'tinyint', N'decimal', N'numeric', N'money',
                       N'smallmoney', N'float', N'real') THEN N'number'
        WHEN @type IN (N'date', N'datetime', N'datetime2', N'smalldatetime', N'datetimeoffset')
            THEN N'date'
        WHEN @type IN (N'char', N'varchar', N'nchar', N'nvarchar', N'text', N'ntext')
            THEN N'category' END;
END;
GO

-- functions/each_number.sql
IF OBJECT_ID(N'sqlkmeans.each_number', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.each_number (@last int, @template nvarchar(max),
        @separator nvarchar(40)) RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- For every number from 1 to the last: the template with {} replaced by it.
ALTER FUNCTION sqlkmeans.each_number
(
    @last      int,
    @template  nvarchar(max),
    @separator nvarchar(40)
)
RETURNS nvarchar(max)
AS
BEGIN
    DECLARE @result nvarchar(max) = N'';
    DECLARE @number int = 0;

    WHILE @number < @last
    BEGIN
        SET @number = @number + 1;
        SET @result = @result
            + CASE WHEN @number > 1 THEN @separator ELSE N'' END
            + REPLACE(@template, N'{}', CAST(@number AS nvarchar(10)));
    END;

    RETURN @result;
END;
GO

-- functions/joined.sql
IF OBJECT_ID(N'sqlkmeans.joined', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.joined (@list nvarchar(max), @separator nvarchar(40))
        RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- What a query FOR XML PATH('') of texts that have no name gives, each behind a separator, as it was
-- before XML, and without the first separator; nothing for no rows. An assignment that adds up over
-- rows promises no order, and STRING_AGG came with 2017. A text is a sum: of a function, some server
-- makes a name.
ALTER FUNCTION sqlkmeans.joined
(
    @list      nvarchar(max),
    @separator nvarchar(40)
)
RETURNS nvarchar(max)
AS
BEGIN
    DECLARE @code int = 1;
    DECLARE @digits nchar(16) = N'0123456789ABCDEF';

    -- By code: what REPLACE takes for equal depends on the collation.
    SET @list = REPLACE(REPLACE(@list COLLATE Latin1_General_100_BIN2, N'&lt;', N'<'), N'&gt;', N'>');
    -- Carriage returns, as a file with the line ends of Windows has them, and what XML does not allow.
    WHILE @code < 32 AND CHARINDEX(N'&#' + N'x', @list) > 0
    BEGIN
        SET @list = REPLACE(@list COLLATE Latin1_General_100_BIN2, N'&#' + N'x'
            + SUBSTRING(@digits, @code / 16 + 1, 1) + SUBSTRING(@digits, @code % 16 + 1, 1) + N';', NCHAR(@code));
        SET @code = @code + 1;
    END;
    SET @list = REPLACE(@list COLLATE Latin1_General_100_BIN2, N'&amp;', N'&');

    RETURN COALESCE(STUFF(@list, 1, LEN(@separator + N'.') - 1, N''), N'');
END;
GO

-- functions/labels_text.sql
IF OBJECT_ID(N'sqlkmeans.labels_text', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.labels_text (@key nvarchar(max))
        RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- The query of the labels in #sqlkmeans_scored and of what stands in the segment table, as stage_changes
-- takes them.
ALTER FUNCTION sqlkmeans.labels_text (@key nvarchar(max))
RETURNS nvarchar(max)
AS
BEGIN
    RETURN N'SELECT ' + sqlkmeans.each_name(@key, N's.{}', N', ') + N', c.segment_id,
    s.[sqlkmeans distance] AS distance, s.[sqlkmeans previous], s.[sqlkmeans before], s.[sqlkmeans flagged]
FROM #sqlkmeans_scored AS s
INNER JOIN #sqlkmeans_cluster AS c ON c.cluster = s.[sqlkmeans cluster]';
END;
GO

-- functions/float_literal.sql
IF OBJECT_ID(N'sqlkmeans.float_literal', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.float_literal (@value float) RETURNS nvarchar(40)
        AS BEGIN RETURN N''''; END;');
GO
-- A number as a statement writes it, to its last bit.
ALTER FUNCTION sqlkmeans.float_literal (@value float)
RETURNS nvarchar(40)
AS
BEGIN
    RETURN LTRIM(RTRIM(CONVERT(nvarchar(40), @value, 3)));
END;
GO

-- functions/number_text.sql
IF OBJECT_ID(N'sqlkmeans.number_text', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.number_text (@value float) RETURNS nvarchar(60)
        AS BEGIN RETURN N''''; END;');
GO
-- A number as people read it: whole and with commas from 1,000 on, else three digits.
ALTER FUNCTION sqlkmeans.number_text (@value float)
RETURNS nvarchar(60)
AS
BEGIN
    DECLARE @text nvarchar(60);

    IF @value IS NULL
        RETURN N'unknown';
    IF @value = 0
        RETURN N'0';
    IF ABS(@value) >= 9e14 OR ABS(@value) < 1e-4
        RETURN LTRIM(RTRIM(CONVERT(nvarchar(60), @value)));
    IF ABS(@value) >= 1000
    BEGIN
        SET @text = CONVERT(nvarchar(60), CAST(ROUND(@value, 0) AS money), 1);
        RETURN LEFT(@text, LEN(@text) - 3);
    END;

    SET @text = CAST(CAST(ROUND(@value, 2 - CAST(FLOOR(LOG10(ABS(@value))) AS int))
        AS decimal(19, 8)) AS nvarchar(60));
    WHILE RIGHT(@text, 1) = N'0'
        SET @text = LEFT(@text, LEN(@text) - 1);
    IF RIGHT(@text, 1) = N'.'
        SET @text = LEFT(@text, LEN(@text) - 1);
    RETURN @text;
END;
GO

-- functions/shared_number.sql
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

-- functions/transformed.sql
IF OBJECT_ID(N'sqlkmeans.transformed', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.transformed (@value nvarchar(400), @transform nvarchar(16))
        RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- The expression of a transformed value: ln(1 + x) to the last digits near 0 too (Goldberg, 1991,
-- theorem 4), or the value itself.
ALTER FUNCTION sqlkmeans.transformed
(
    @value     nvarchar(400),
    @transform nvarchar(16)
)
RETURNS nvarchar(max)
AS
BEGIN
    IF @transform <> N'log1p'
        RETURN @value;

    RETURN REPLACE(N'CASE WHEN 1e0 + {} = 1e0 THEN {} WHEN {} > -1e0 THEN LOG(1e0 + {}) * ({} '
        + N'/ ((1e0 + {}) - 1e0)) END', N'{}', @value);
END;
GO

-- functions/compares_in_pairs.sql
IF OBJECT_ID(N'sqlkmeans.compares_in_pairs', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.compares_in_pairs (@k int, @features int) RETURNS bit
        AS BEGIN RETURN 0; END;');
GO
-- Whether the nearest of k centroids is found by comparing distances in pairs, over a variable for
-- each coordinate. Each pair is written out, four names a feature and distance, and the server takes
-- 65,535 names in one expression, which may hold the distances three times (train_labels); long
-- before, compiling takes longer than ordering them.
ALTER FUNCTION sqlkmeans.compares_in_pairs (@k int, @features int)
RETURNS bit
AS
BEGIN
    RETURN CASE WHEN CAST(@k AS bigint) * (@k - 1) * 4 * @features <= 10000
                     AND CAST(@k + 1 AS bigint) * @features <= 1500 THEN 1 ELSE 0 END;
END;
GO

-- functions/centroid_values.sql
IF OBJECT_ID(N'sqlkmeans.centroid_values', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.centroid_values (@k int, @features int)
        RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- Statements that give @c0_1, @c0_2 … the coordinates of row 0 of #sqlkmeans_centroid and, where
-- sqlkmeans.nearest compares over them, @c1_1, @c1_2 … those of the others. Values of variables, so
-- that a text that is executed for each pass is compiled once.
ALTER FUNCTION sqlkmeans.centroid_values (@k int, @features int)
RETURNS nvarchar(max)
AS
BEGIN
    -- A sum of one value and zeros: MAX would drop NULLs, and warn of each (8153).
    DECLARE @names nvarchar(max) = sqlkmeans.each_number(@features, N'@c~_{} float', N', ');
    DECLARE @values nvarchar(max) = sqlkmeans.each_number(
        @features, N'@c~_{} = SUM(CASE c.cluster WHEN ~ THEN c.z{} ELSE 0e0 END)', N', ');
    DECLARE @last int = CASE sqlkmeans.compares_in_pairs(@k, @features) WHEN 1 THEN @k ELSE 0 END;

    RETURN N'DECLARE ' + REPLACE(@names, N'~', N'0')
        + sqlkmeans.each_number(@last, N', ' + REPLACE(@names, N'~', N'{}'), N'') + N';
SELECT ' + REPLACE(@values, N'~', N'0')
        + sqlkmeans.each_number(@last, N', ' + REPLACE(@values, N'~', N'{}'), N'') + N'
FROM #sqlkmeans_centroid AS c;
';
END;
GO

-- functions/nearest.sql
IF OBJECT_ID(N'sqlkmeans.nearest', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.nearest (@k int, @features int)
        RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- What follows a row r of prepared features, and gives a row n: cluster, the number of the nearest of
-- the centroids 1 to @k of #sqlkmeans_centroid, the first of several that are equally near. Compared in
-- pairs, a table is read in batches, and each distance is written once; where that would be too long
-- an expression, the centroids are ordered for each row.
ALTER FUNCTION sqlkmeans.nearest (@k int, @features int)
RETURNS nvarchar(max)
AS
BEGIN
    DECLARE @squares nvarchar(max);
    DECLARE @result nvarchar(max);
    DECLARE @one int = 1;
    DECLARE @other int;

    IF sqlkmeans.compares_in_pairs(@k, @features) = 0
    BEGIN
        SET @squares = N'(r.[sqlkmeans z{}] - c.z{}) * (r.[sqlkmeans z{}] - c.z{})';
        RETURN N'CROSS APPLY (SELECT TOP (1) c.cluster, '
            + sqlkmeans.each_number(@features, @squares, N' + ')
            + N' AS squared FROM #sqlkmeans_centroid AS c WHERE c.cluster > 0 ORDER BY squared, c.cluster) AS n';
    END;

    SET @squares = sqlkmeans.each_number(
        @features, N'(r.[sqlkmeans z{}] - @c~_{}) * (r.[sqlkmeans z{}] - @c~_{})', N' + ');
    SET @result = N'CROSS APPLY (SELECT '
        + sqlkmeans.each_number(@k, REPLACE(@squares, N'~', N'{}') + N' AS d{}', N', ') + N') AS d
CROSS APPLY (SELECT CASE';
    -- The first whose distance is none of the later ones' greater.
    WHILE @one < @k
    BEGIN
        SET @other = @one + 1;
        WHILE @other <= @k
        BEGIN
            SET @result = @result + CASE WHEN @other = @one + 1 THEN N' WHEN d.d' ELSE N' AND d.d' END
                + CAST(@one AS nvarchar(10)) + N' <= d.d' + CAST(@other AS nvarchar(10));
            SET @other = @other + 1;
        END;
        SET @result = @result + N' THEN ' + CAST(@one AS nvarchar(10));
        SET @one = @one + 1;
    END;

    RETURN @result + CASE WHEN @k = 1 THEN N' WHEN 1 = 1 THEN 1' ELSE N'' END
        + N' ELSE ' + CAST(@k AS nvarchar(10)) + N' END AS cluster) AS n';
END;
GO

-- functions/sums_text.sql
IF OBJECT_ID(N'sqlkmeans.sums_text', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.sums_text (@rows nvarchar(128), @k int, @features int,
        @kept bit, @sign nvarchar(1)) RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- One aggregate over a table of rows, into #sqlkmeans_moved: the rows, weights and coordinates of each
-- nearest centroid of #sqlkmeans_centroid and earlier segment. Sums are about centroid 0, the mean of a
-- sample, so that they keep their digits far from 0. @sign = '-' takes off what was added before;
-- @kept = 1 is what the next passes go on from. Of the rows that starts are compared on, sums are
-- added in one order: which start wins would depend on it.
ALTER FUNCTION sqlkmeans.sums_text
(
    @rows     nvarchar(128),
    @k        int,
    @features int,
    @kept     bit,
    @sign     nvarchar(1)
)
RETURNS nvarchar(max)
AS
BEGIN
    RETURN N'INSERT INTO #sqlkmeans_moved (kept, cluster, previous, customers, weight, squares, '
        + sqlkmeans.each_number(@features, N'z{}', N', ') + N')
SELECT ' + CAST(@kept AS nvarchar(1)) + N', n.cluster, r.[sqlkmeans previous], ' + @sign + N'COUNT_BIG(*), '
        + @sign + N'SUM(r.[sqlkmeans weight]), ' + @sign + N'SUM(r.[sqlkmeans weight] * ('
        + sqlkmeans.each_number(@features,
            N'(r.[sqlkmeans z{}] - @c0_{}) * (r.[sqlkmeans z{}] - @c0_{})', N' + ') + N')),
    ' + sqlkmeans.each_number(@features,
            @sign + N'SUM(r.[sqlkmeans weight] * (r.[sqlkmeans z{}] - @c0_{}))', N', ') + N'
FROM ' + @rows + N' AS r
' + sqlkmeans.nearest(@k, @features) + N'
GROUP BY n.cluster, r.[sqlkmeans previous]' + CASE @rows WHEN N'#sqlkmeans_seed' THEN N'
OPTION (MAXDOP 1, KEEPFIXED PLAN)' ELSE N'' END + N';
';
END;
GO

-- functions/pass_text.sql
IF OBJECT_ID(N'sqlkmeans.pass_text', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.pass_text (@rows nvarchar(128), @k int, @features int)
        RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- One pass of Lloyd's algorithm (1982): every row of the table @rows goes to its nearest centroid of
-- #sqlkmeans_centroid, and each centroid to the mean of its rows and of those that #sqlkmeans_moved
-- keeps. One without a row moves to the row that is farthest from its own. The text uses variables
-- @k; @shift, the sum of the squared moves, NULL where there was such a centroid; and @inertia, of the
-- centroids as they were (Steiner's theorem spares the distances). It serves all passes.
ALTER FUNCTION sqlkmeans.pass_text
(
    @rows     nvarchar(128),
    @k        int,
    @features int
)
RETURNS nvarchar(max)
AS
BEGIN
    -- Where rows were taken off, a weight of 0 may be a rounding error.
    DECLARE @means nvarchar(max) = N'(SELECT a.cluster, SUM(a.weight) AS weight, SUM(a.squares) AS squares, '
        + sqlkmeans.each_number(@features, N'SUM(a.z{}) / NULLIF(SUM(a.weight), 0e0) AS z{}', N', ') + N'
      FROM #sqlkmeans_moved AS a
      GROUP BY a.cluster
      HAVING SUM(a.weight) > 1e-12 * MAX(a.weight)) AS m';

    RETURN sqlkmeans.centroid_values(@k, @features) + N'DELETE FROM #sqlkmeans_moved WHERE kept = 0;
' + sqlkmeans.sums_text(@rows, @k, @features, 0, N'')
        + N'SELECT @shift = SUM(' + sqlkmeans.each_number(@features,
            N'(m.z{} - (c.z{} - @c0_{})) * (m.z{} - (c.z{} - @c0_{}))', N' + ') + N'),
    @inertia = SUM(m.squares + m.weight * (' + sqlkmeans.each_number(@features,
            N'(c.z{} - @c0_{}) * (c.z{} - @c0_{} - 2e0 * m.z{})', N' + ') + N'))
FROM ' + @means + N'
INNER JOIN #sqlkmeans_centroid AS c ON c.cluster = m.cluster;
UPDATE c
SET ' + sqlkmeans.each_number(@features, N'z{} = @c0_{} + m.z{}', N', ') + N'
FROM #sqlkmeans_centroid AS c
INNER JOIN ' + @means + N' ON m.cluster = c.cluster;
IF @@ROWCOUNT < @k
BEGIN
    SET @shift = NULL;
    UPDATE c
    SET ' + sqlkmeans.each_number(@features, N'z{} = f.z{}', N', ') + N'
    FROM #sqlkmeans_centroid AS c
    INNER JOIN (SELECT o.cluster, ROW_NUMBER() OVER (ORDER BY o.cluster) AS place
                FROM #sqlkmeans_centroid AS o
                WHERE o.cluster > 0 AND NOT EXISTS (SELECT 1 FROM ' + @means + N' WHERE m.cluster = o.cluster)) AS e
        ON e.cluster = c.cluster
    INNER JOIN (SELECT ' + sqlkmeans.each_number(@features, N'd.z{}', N', ') + N',
                    ROW_NUMBER() OVER (ORDER BY d.squared DESC, d.row_number) AS place
                FROM (SELECT ' + sqlkmeans.each_number(@features, N'r.[sqlkmeans z{}] AS z{}', N', ')
        + N', r.[sqlkmeans row] AS row_number, n.squared
                      FROM ' + @rows + N' AS r
                      CROSS APPLY (SELECT TOP (1) ' + sqlkmeans.each_number(@features,
            N'(r.[sqlkmeans z{}] - o.z{}) * (r.[sqlkmeans z{}] - o.z{})', N' + ') + N' AS squared
                                   FROM #sqlkmeans_centroid AS o
                                   WHERE o.cluster > 0
                                   ORDER BY squared) AS n
                      WHERE r.[sqlkmeans weight] > 0e0) AS d) AS f
        ON f.place = e.place;
END;
';
END;
GO

-- functions/clipped.sql
IF OBJECT_ID(N'sqlkmeans.clipped', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.clipped (@value nvarchar(400), @low float, @high float)
        RETURNS nvarchar(max) AS BEGIN RETURN N''''; END;');
GO
-- The expression of a value that is pulled in to its limits, where it has some.
ALTER FUNCTION sqlkmeans.clipped
(
    @value nvarchar(400),
    @low   float,
    @high  float
)
RETURNS nvarchar(max)
AS
BEGIN
    IF @low IS NULL
        RETURN @value;

    RETURN N'CASE WHEN ' + @value + N' < ' + sqlkmeans.float_literal(@low) + N' THEN '
        + sqlkmeans.float_literal(@low) + N' WHEN ' + @value + N' > '
        + sqlkmeans.float_literal(@high) + N' THEN ' + sqlkmeans.float_literal(@high) + N' ELSE '
        + @value + N' END';
END;
GO

-- functions/prepared_value.sql
IF OBJECT_ID(N'sqlkmeans.prepared_value', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.prepared_value (@value float, @low float, @high float,
        @transform nvarchar(16)) RETURNS float AS BEGIN RETURN 0e0; END;');
GO
-- A value pulled in to its limits, where it has some, and transformed as sqlkmeans.transformed says:
-- for a few values, where a statement over all rows has the expression.
ALTER FUNCTION sqlkmeans.prepared_value
(
    @value     float,
    @low       float,
    @high      float,
    @transform nvarchar(16)
)
RETURNS float
AS
BEGIN
    SET @value = CASE WHEN @value < @low THEN @low WHEN @value > @high THEN @high ELSE @value END;
    IF @transform <> N'log1p' OR 1e0 + @value = 1e0
        RETURN @value;
    IF @value > -1e0
        RETURN LOG(1e0 + @value) * (@value / ((1e0 + @value) - 1e0));

    RETURN NULL;
END;
GO

-- functions/self_test_customers.sql
IF OBJECT_ID(N'sqlkmeans.self_test_customers') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.self_test_customers () RETURNS TABLE
        AS RETURN (SELECT 1 AS customer_id);');
GO
-- The customers of the self-test: three groups that nobody could confuse, made by arithmetic alone, so
-- that they are the same on every server. Keys beyond 2^53, because a key that passes through a float
-- anywhere loses its last digit; cities that differ by case only; an income that is not known.
ALTER FUNCTION sqlkmeans.self_test_customers ()
RETURNS TABLE
AS
RETURN (
    SELECT CAST(9007199254740993 + g.n AS bigint) AS customer_id,
        CASE WHEN g.n = 7 THEN NULL
             ELSE CAST(g.income + g.n * 37 % 101 * 20.5 AS float) END AS income,
        CAST(g.orders + g.n * 13 % 7 AS int) AS orders,
        CAST(g.city AS char(10)) AS city,
        g.segment_id
    FROM (
        SELECT d.n,
            CASE WHEN d.n < 150 THEN 40000 WHEN d.n < 240 THEN 90000 ELSE 160000 END AS income,
            CASE WHEN d.n < 150 THEN 2 WHEN d.n < 240 THEN 30 ELSE 120 END AS orders,
            CASE WHEN d.n < 150 THEN CASE WHEN d.n % 3 = 0 THEN 'oslo' ELSE 'Oslo' END
                 WHEN d.n < 240 THEN 'Bergen'
                 WHEN d.n % 10 = 0 THEN 'Bergen'
                 ELSE 'Stavanger' END AS city,
            CASE WHEN d.n < 150 THEN 1 WHEN d.n < 240 THEN 2 ELSE 3 END AS segment_id
        FROM (
            SELECT a.n + 10 * b.n + 100 * c.n AS n
            FROM (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) AS a (n)
            CROSS JOIN (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) AS b (n)
            CROSS JOIN (VALUES (0), (1), (2)) AS c (n)
        ) AS d
    ) AS g
);
GO

-- functions/self_test_record.sql
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

-- procedures/raise_problems.sql
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

-- procedures/as_owner.sql
-- The one door to more than the caller may do. Nobody is granted it: procedures of this schema
-- reach it through their common owner, with statements built from quoted names and types; no text of
-- a caller comes here but as a parameter. A server without the catalog of module parameters has no
-- EXECUTE AS either; there the caller needs the permissions.
IF OBJECT_ID(N'sqlkmeans.as_owner', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.as_owner AS RETURN 0;');
GO
DECLARE @context nvarchar(40) =
    CASE WHEN OBJECT_ID(N'sys.parameters') IS NULL THEN N'' ELSE N'WITH EXECUTE AS OWNER ' END;

DECLARE @procedure nvarchar(max) = N'ALTER PROCEDURE sqlkmeans.as_owner
    @statement nvarchar(max),
    @run_id    bigint        = NULL,
    @text      nvarchar(max) = NULL,
    @now       datetime2(6)  = NULL,
    @then      datetime2(6)  = NULL,
    @tolerance float         = NULL,
    @arrived   bigint        = NULL OUTPUT,
    @moved     bigint        = NULL OUTPUT,
    @departed  bigint        = NULL OUTPUT,
    @written   bigint        = NULL OUTPUT
' + @context + N'AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    EXECUTE sys.sp_executesql
        @statement,
        N''@run_id bigint, @text nvarchar(max), @now datetime2(6), @then datetime2(6),
          @tolerance float, @arrived bigint OUTPUT, @moved bigint OUTPUT,
          @departed bigint OUTPUT, @written bigint OUTPUT'',
        @run_id = @run_id, @text = @text, @now = @now, @then = @then, @tolerance = @tolerance,
        @arrived = @arrived OUTPUT, @moved = @moved OUTPUT,
        @departed = @departed OUTPUT, @written = @written OUTPUT;
END;';

EXECUTE (@procedure);
GO
-- Where it cannot be the owner, nothing else will work: said here, and not on the first night.
BEGIN TRY
    EXECUTE sqlkmeans.as_owner @statement = N'SET @arrived = 1;';
END TRY
BEGIN CATCH
    DECLARE @problem nvarchar(max) = N'the procedures cannot run as the owner of this database ('
        + ERROR_MESSAGE() + N'); ALTER AUTHORIZATION ON DATABASE::' + QUOTENAME(DB_NAME())
        + N' TO a login of this server';
    EXECUTE sqlkmeans.raise_problems @number = 50004, @problems = @problem;
END CATCH;
GO

-- procedures/refuse_transaction.sql
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

-- procedures/take_lock.sql
IF OBJECT_ID(N'sqlkmeans.take_lock', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.take_lock AS RETURN 0;');
GO
-- Takes or gives back a segmentation's application lock for this session. It is never taken twice,
-- because nobody gives it back for a call that is cancelled: CATCH does not run for that. So the next
-- call in the session that gives it back, gives it back whole. What takes it for several calls takes
-- it with @keep = 1: then only @keep = 1 gives it back. It waits for @wait milliseconds; some server
-- calls 0 a wrong call where it cannot be had.
ALTER PROCEDURE sqlkmeans.take_lock
    @segmentation nvarchar(128),
    @release      bit = 0,
    @keep         bit = 0,
    @wait         int = 1
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @lock nvarchar(255) = sqlkmeans.lock_name(@segmentation);
    DECLARE @kept nvarchar(255) = N'kept ' + @lock;
    DECLARE @result int = 0;
    DECLARE @number int = 50004;
    DECLARE @problem nvarchar(max);

    BEGIN TRY
        IF @release = 0
        BEGIN
            IF APPLOCK_MODE(N'sqlkmeans_operator', @lock, N'Session') = N'NoLock'
                EXECUTE @result = sys.sp_getapplock
                    @Resource = @lock, @LockMode = N'Exclusive', @LockOwner = N'Session',
                    @LockTimeout = @wait, @DbPrincipal = N'sqlkmeans_operator';
            IF @result >= 0 AND @keep = 1
               AND APPLOCK_MODE(N'sqlkmeans_operator', @kept, N'Session') = N'NoLock'
                EXECUTE @result = sys.sp_getapplock
                    @Resource = @kept, @LockMode = N'Exclusive', @LockOwner = N'Session',
                    @LockTimeout = 1, @DbPrincipal = N'sqlkmeans_operator';
        END;
        ELSE
        BEGIN
            WHILE @keep = 1 AND @result >= 0
                  AND APPLOCK_MODE(N'sqlkmeans_operator', @kept, N'Session') <> N'NoLock'
                EXECUTE @result = sys.sp_releaseapplock
                    @Resource = @kept, @LockOwner = N'Session', @DbPrincipal = N'sqlkmeans_operator';
            WHILE @result >= 0
                  AND APPLOCK_MODE(N'sqlkmeans_operator', @kept, N'Session') = N'NoLock'
                  AND APPLOCK_MODE(N'sqlkmeans_operator', @lock, N'Session') <> N'NoLock'
                EXECUTE @result = sys.sp_releaseapplock
                    @Resource = @lock, @LockOwner = N'Session', @DbPrincipal = N'sqlkmeans_operator';
        END;
    END TRY
    BEGIN CATCH
        -- Who is no member of the role may not ask for its locks.
        SET @problem = @segmentation + N': its lock is for members of sqlkmeans_operator: '
            + ERROR_MESSAGE();
    END CATCH;

    IF @problem IS NULL AND @result = -1
        SELECT @number = 50005, @problem = @segmentation + N' is being run already; nothing was '
            + N'changed. Where nothing runs, a session whose call was cancelled still holds it, '
            + N'until it ends or runs it again (docs/operate.md, Who holds a segmentation)';
    ELSE IF @problem IS NULL AND @result < 0
        SET @problem = @segmentation + N': its lock was not '
            + CASE @release WHEN 1 THEN N'given back' ELSE N'taken' END + N', '
            + CASE @result WHEN -2 THEN N'because the wait was cancelled'
                           WHEN -3 THEN N'because the wait was part of a deadlock'
                           ELSE N'and the server said ' + CAST(@result AS nvarchar(20)) END
            + N'; nothing was changed';
    EXECUTE sqlkmeans.raise_problems @number = @number, @problems = @problem;
END;
GO

-- procedures/add_warning.sql
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

-- procedures/describe_source.sql
IF OBJECT_ID(N'sqlkmeans.describe_source', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.describe_source AS RETURN 0;');
GO
-- Fills the caller's table #sqlkmeans_source_column with the columns of a source, or says in @problem
-- why it has none. Nothing is run, and all of it is asked as the caller, so that nobody learns or
-- reads through this what they may not. Where a column can be traced to a table, it is named.
ALTER PROCEDURE sqlkmeans.describe_source
    @source  nvarchar(max),
    @problem nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @query nvarchar(max) = N'SELECT * FROM ' + sqlkmeans.relation(@source) + N';';
    DECLARE @browse int = 1;
    DECLARE @described nvarchar(max);
    DECLARE @error nvarchar(max);

    SET @problem = sqlkmeans.source_problem(@source);
    -- As if for browsing, the server names the table behind a column; what cannot be browsed it
    -- describes without. Hidden are keys of such tables, which the source does not have.
    WHILE @problem IS NULL AND @browse >= 0 AND (@browse = 1 OR @error IS NOT NULL)
    BEGIN
        SET @described = (
            SELECT d.column_ordinal AS position, d.name, COALESCE(t.name, d.user_type_name, N'unknown') AS type,
                d.max_length, d.[precision], d.scale, d.collation_name,
                CASE WHEN d.source_server IS NULL AND d.source_database = DB_NAME()
                     THEN QUOTENAME(d.source_schema) + N'.' + QUOTENAME(d.source_table) END AS base_table,
                CASE WHEN d.source_server IS NULL AND d.source_database = DB_NAME()
                     THEN d.source_column END AS base_column, d.error_message
            FROM sys.dm_exec_describe_first_result_set(@query, NULL, @browse) AS d
            LEFT JOIN sys.types AS t ON t.user_type_id = d.system_type_id
            WHERE d.is_hidden = 0 OR d.error_number IS NOT NULL
            FOR JSON PATH);
        SELECT @error = MIN(j.error_message)
        FROM OPENJSON(@described) WITH (error_message nvarchar(max) '$.error_message') AS j;
        SET @browse = @browse - 1;
    END;
    IF @problem IS NULL
        SET @problem = COALESCE(@error, CASE WHEN @described IS NULL
            THEN N'it has no columns, or you may not read it' END);
    IF @problem IS NULL
        INSERT INTO #sqlkmeans_source_column
            (position, name, type, max_length, [precision], scale, collation, base_table, base_column,
             masked)
        SELECT j.position, j.name, j.type, j.max_length, j.[precision], j.scale, j.collation_name,
            j.base_table, j.base_column, 0
        FROM OPENJSON(@described) WITH (
            position int '$.position', name nvarchar(128) '$.name', type nvarchar(128) '$.type',
            max_length int '$.max_length', [precision] int '$.precision', scale int '$.scale',
            collation_name nvarchar(128) '$.collation_name', base_table nvarchar(300) '$.base_table',
            base_column nvarchar(128) '$.base_column') AS j;

    SET @problem = N'source: ' + @problem;
END;
GO

-- procedures/warn_of_hidden_rows.sql
IF OBJECT_ID(N'sqlkmeans.warn_of_hidden_rows', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.warn_of_hidden_rows AS RETURN 0;');
GO
-- Warns a run whose source stands on a table with row-level security: who may not see all of its
-- rows would publish that the others have departed.
ALTER PROCEDURE sqlkmeans.warn_of_hidden_rows
    @run_id bigint,
    @source nvarchar(max)
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @query nvarchar(max) = N'SELECT * FROM ' + sqlkmeans.relation(@source) + N';';
    DECLARE @table nvarchar(400) = N'';
    DECLARE @policies bigint;
    DECLARE @warning nvarchar(max);

    -- Not every server has row-level security.
    IF OBJECT_ID(N'sys.security_predicates') IS NULL
        RETURN 0;

    WHILE 1 = 1
    BEGIN
        -- As if for browsing, the server names the table behind a column.
        SELECT @table = MIN(b.name)
        FROM (SELECT QUOTENAME(d.source_schema) + N'.' + QUOTENAME(d.source_table) AS name
              FROM sys.dm_exec_describe_first_result_set(@query, NULL, 1) AS d
              WHERE d.source_server IS NULL AND d.source_database = DB_NAME()) AS b
        WHERE b.name > @table;
        IF @table IS NULL
            BREAK;

        EXECUTE sqlkmeans.as_owner
            @statement = N'
SELECT @arrived = COUNT_BIG(*)
FROM sys.security_predicates AS p
INNER JOIN sys.security_policies AS y ON y.object_id = p.object_id AND y.is_enabled = 1
WHERE p.target_object_id = OBJECT_ID(@text);',
            @text = @table, @arrived = @policies OUTPUT;
        IF @policies > 0
        BEGIN
            SET @warning = @table + N' has row-level security: rows that ' + ORIGINAL_LOGIN()
                + N' may not see count as departed';
            EXECUTE sqlkmeans.add_warning @run_id = @run_id, @warning = @warning;
        END;
    END;
END;
GO

-- procedures/describe_key.sql
IF OBJECT_ID(N'sqlkmeans.describe_key', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.describe_key AS RETURN 0;');
GO
-- The key columns of a table of this database with their types, as CREATE TABLE writes them, or
-- with other words before and after each.
ALTER PROCEDURE sqlkmeans.describe_key
    @table       nvarchar(1000),
    @key         nvarchar(max),
    @key_columns nvarchar(max) OUTPUT,
    @before      nvarchar(100) = N'',
    @after       nvarchar(100) = N' NOT NULL, '
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @name nvarchar(128);
    DECLARE @position int = 0;

    CREATE TABLE #sqlkmeans_table_column
    (
        name nvarchar(128) COLLATE DATABASE_DEFAULT NOT NULL,
        type nvarchar(400) COLLATE DATABASE_DEFAULT NULL
    );
    DECLARE @statement nvarchar(max) = N'
        INSERT INTO #sqlkmeans_table_column (name, type)
        SELECT c.name,
            sqlkmeans.type_text(TYPE_NAME(c.system_type_id), c.max_length, c.[precision], c.scale, c.collation_name)
        FROM sys.columns AS c
        WHERE c.object_id = OBJECT_ID(@text);';
    EXECUTE sqlkmeans.as_owner @statement = @statement, @text = @table;

    SET @key_columns = N'';
    WHILE EXISTS (SELECT 1 FROM OPENJSON(@key) AS j WHERE CAST(j.[key] AS int) = @position)
    BEGIN
        SELECT @name = j.[value] FROM OPENJSON(@key) AS j WHERE CAST(j.[key] AS int) = @position;
        SELECT @key_columns = @key_columns + @before + QUOTENAME(@name) + N' ' + c.type
            + @after
        FROM #sqlkmeans_table_column AS c
        WHERE c.name = @name;
        SET @position = @position + 1;
    END;
END;
GO

-- procedures/check_keys.sql
IF OBJECT_ID(N'sqlkmeans.check_keys', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.check_keys AS RETURN 0;');
GO
-- Raises, both at once, that rows have no key or the key of another: what a table with this key
-- would refuse with the first such row alone. @relation stands after FROM and has the alias s.
ALTER PROCEDURE sqlkmeans.check_keys
    @relation nvarchar(max),
    @key      nvarchar(max)
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @known nvarchar(max) = sqlkmeans.each_name(@key, N's.{} IS NOT NULL', N' AND ');
    DECLARE @columns nvarchar(max) = sqlkmeans.each_name(@key, N's.{}', N', ');
    DECLARE @names nvarchar(max) = N'';
    DECLARE @problems nvarchar(max);
    DECLARE @statement nvarchar(max);
    DECLARE @position int = 0;
    DECLARE @nulls bigint;
    DECLARE @repeats bigint;
    DECLARE @example nvarchar(max);

    -- Of a key that is as it should be nothing is added up but its one row.
    SET @statement = N'SELECT @nulls = COALESCE(SUM(g.nulls * g.customers), 0),
    @repeats = COALESCE(SUM(CASE g.nulls WHEN 0 THEN g.customers - 1 END), 0)
FROM (SELECT COUNT_BIG(*) AS customers, '
        + sqlkmeans.each_name(@key, N'CASE WHEN s.{} IS NULL THEN 1 ELSE 0 END', N' + ')
        + N' AS nulls FROM ' + @relation + N' GROUP BY ' + @columns + N'
      HAVING COUNT_BIG(*) > 1 OR ' + sqlkmeans.each_name(@key, N's.{} IS NULL', N' OR ') + N') AS g;';
    EXECUTE sys.sp_executesql
        @statement, N'@nulls bigint OUTPUT, @repeats bigint OUTPUT',
        @nulls = @nulls OUTPUT, @repeats = @repeats OUTPUT;
    IF @nulls = 0 AND @repeats = 0
        RETURN 0;

    WHILE EXISTS (SELECT 1 FROM OPENJSON(@key) AS j WHERE CAST(j.[key] AS int) = @position)
    BEGIN
        SELECT @names = @names + CASE @position WHEN 0 THEN N'' ELSE N', ' END + j.[value]
        FROM OPENJSON(@key) AS j
        WHERE CAST(j.[key] AS int) = @position;
        SET @position = @position + 1;
    END;
    SET @problems = CASE WHEN @nulls > 0 THEN N'key ' + @names + N': '
        + sqlkmeans.number_text(@nulls) + N' NULL; a key identifies a customer' + @line
        ELSE N'' END;
    IF @repeats > 0
    BEGIN
        SET @statement = N'SELECT TOP (1) @example = '
            + sqlkmeans.each_name(@key, N'CAST(s.{} AS nvarchar(400))', N' + N'', '' + ')
            + N' FROM ' + @relation + N' WHERE ' + @known + N' GROUP BY ' + @columns
            + N' HAVING COUNT_BIG(*) > 1 ORDER BY ' + @columns + N';';
        EXECUTE sys.sp_executesql
            @statement, N'@example nvarchar(max) OUTPUT', @example = @example OUTPUT;
        SET @problems = @problems + N'key ' + @names + N': not unique; '
            + sqlkmeans.number_text(@repeats) + N' rows repeat the key of another (for example '
            + @example + N'); aggregate in the source, or add a key column';
    END;
    EXECUTE sqlkmeans.raise_problems @number = 50003, @problems = @problems;
END;
GO

-- procedures/check_target.sql
IF OBJECT_ID(N'sqlkmeans.check_target', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.check_target AS RETURN 0;');
GO
-- Adds a line to @problems for each thing that speaks against writing, as dbo, to a target, its
-- history and its view with names: that they are somebody else's, or that somebody else could have
-- code of their own run by it. What sqlkmeans made has an extended property of that name. A caller
-- that goes on to write holds locks on the tables.
ALTER PROCEDURE sqlkmeans.check_target
    @target   nvarchar(1000),
    @problems nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @schema nvarchar(128) = COALESCE(PARSENAME(@target, 2), N'dbo');
    DECLARE @position int = 0;
    DECLARE @name nvarchar(1000);
    DECLARE @kind nvarchar(10);
    DECLARE @problem nvarchar(max);

    CREATE TABLE #sqlkmeans_target_object
    (
        position int            NOT NULL PRIMARY KEY,
        name     nvarchar(1000) COLLATE DATABASE_DEFAULT NOT NULL,
        kind     nvarchar(10)   COLLATE DATABASE_DEFAULT NOT NULL,
        wanted   nvarchar(10)   COLLATE DATABASE_DEFAULT NOT NULL,
        owner    nvarchar(128)  COLLATE DATABASE_DEFAULT NULL,
        fires    nvarchar(128)  COLLATE DATABASE_DEFAULT NULL,
        marked   bit            NOT NULL
    );

    SET @problems = COALESCE(@problems, N'');
    IF sqlkmeans.quoted_name(@target, N'') IS NULL OR PARSENAME(@target, 3) IS NOT NULL
       OR sqlkmeans.quoted_name(@target, N'_history') IS NULL
        SET @problem = COALESCE(LEFT(@target, 200), N'NULL')
            + N' given; allowed: table or schema.table in this database';
    ELSE IF SCHEMA_ID(@schema) IS NULL
        SET @problem = N'there is no schema ' + @schema;
    ELSE IF @schema = N'sqlkmeans'
        SET @problem = N'schema sqlkmeans is not for segment tables';
    IF @problem IS NOT NULL
    BEGIN
        SET @problems = @problems + N'target: ' + @problem + @line;
        RETURN 0;
    END;

    -- As the owner: what the caller cannot see must not be taken for a free name.
    EXECUTE sqlkmeans.as_owner @text = @target, @statement = N'
INSERT INTO #sqlkmeans_target_object (position, name, kind, wanted, owner, fires, marked)
SELECT n.position, sqlkmeans.quoted_name(@text, n.suffix) COLLATE DATABASE_DEFAULT, COALESCE(o.kind, N''''),
    n.wanted, USER_NAME(COALESCE(o.principal_id, s.principal_id)),
    (SELECT MIN(g.name) FROM sys.triggers AS g
     WHERE g.parent_id = o.object_id AND g.is_disabled = 0),
    CASE WHEN EXISTS (SELECT 1 FROM sys.extended_properties AS e
                      WHERE e.class = 1 AND e.major_id = o.object_id AND e.minor_id = 0
                        AND e.name = N''sqlkmeans'') THEN 1 ELSE 0 END
FROM (VALUES (1, N'''', N''U''), (2, N''_history'', N''U''), (3, N''_named'', N''V''))
    AS n (position, suffix, wanted)
INNER JOIN sys.schemas AS s ON s.schema_id = SCHEMA_ID(COALESCE(PARSENAME(@text, 2), N''dbo''))
LEFT JOIN (SELECT t.object_id, t.principal_id, N''U'' AS kind FROM sys.tables AS t
           WHERE t.is_external = 0
           UNION ALL
           SELECT v.object_id, v.principal_id, N''V'' FROM sys.views AS v) AS o
    ON o.object_id = OBJECT_ID(sqlkmeans.quoted_name(@text, n.suffix))
WHERE OBJECT_ID(sqlkmeans.quoted_name(@text, n.suffix)) IS NOT NULL
UNION ALL
SELECT 4, QUOTENAME(s.name) COLLATE DATABASE_DEFAULT, N''schema'', N''schema'', USER_NAME(s.principal_id), NULL, 1
FROM sys.schemas AS s
WHERE s.schema_id = SCHEMA_ID(COALESCE(PARSENAME(@text, 2), N''dbo''));';

    WHILE 1 = 1
    BEGIN
        SET @name = NULL;
        SELECT TOP (1) @position = t.position, @name = t.name, @kind = t.wanted,
            @problem = CASE
                WHEN t.kind <> t.wanted OR t.marked = 0
                    THEN N' is there already, and sqlkmeans did not make it'
                WHEN t.owner NOT IN (N'dbo', N'db_owner')
                    THEN N' is owned by ' + t.owner + N', whose triggers would run as dbo; allowed: '
                        + N'what dbo owns'
                WHEN t.fires IS NOT NULL
                    THEN N' has the trigger ' + t.fires + N', which would run as dbo; disable or drop it'
            END
        FROM #sqlkmeans_target_object AS t
        WHERE t.position > @position
        ORDER BY t.position;
        IF @name IS NULL
            BREAK;
        SET @problems = @problems + COALESCE(N'target: '
            + CASE @kind WHEN N'schema' THEN N'schema ' ELSE N'' END + @name + @problem + @line, N'');
    END;
END;
GO

-- procedures/check_definition.sql
IF OBJECT_ID(N'sqlkmeans.check_definition', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.check_definition AS RETURN 0;');
GO
-- Checks a definition against the catalogue. Adds a line to @problems for each thing wrong, and
-- gives the key columns with their types, as CREATE TABLE writes them. With @key_types, a list of
-- theirs, the source is somewhere else: of it nothing is looked at but these.
ALTER PROCEDURE sqlkmeans.check_definition
    @segmentation nvarchar(128),
    @definition   nvarchar(max),
    @problems     nvarchar(max) OUTPUT,
    @key_columns  nvarchar(max) OUTPUT,
    @key_types    nvarchar(max) = NULL
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @source nvarchar(max) = JSON_VALUE(@definition, '$.source');
    DECLARE @target nvarchar(1000) = JSON_VALUE(@definition, '$.target');
    DECLARE @key nvarchar(max) = JSON_QUERY(@definition, '$.key');
    DECLARE @table nvarchar(1000) = sqlkmeans.quoted_name(@source, N'');
    DECLARE @target_name nvarchar(1000) = sqlkmeans.quoted_name(@target, N'');
    DECLARE @problem nvarchar(max);
    DECLARE @name nvarchar(128);
    DECLARE @type nvarchar(400);
    DECLARE @given nvarchar(400);
    DECLARE @length int;
    DECLARE @kind nvarchar(16);
    DECLARE @sample_weight nvarchar(128);
    DECLARE @changed_by nvarchar(128);
    DECLARE @position int = 0;
    DECLARE @bytes int = 0;

    SET @problems = COALESCE(@problems, N'');
    SET @key_columns = N'';

    -- JSON_VALUE gives NULL for a text of more than 4,000 characters.
    SELECT @source = COALESCE(@source, j.source), @sample_weight = j.sample_weight,
        @changed_by = j.changed_by
    FROM OPENJSON(@definition) WITH (
        source nvarchar(max) '$.source', sample_weight nvarchar(max) '$.sample_weight',
        changed_by nvarchar(max) '$.changed_by') AS j;

    CREATE TABLE #sqlkmeans_source_column
    (
        position   int           NOT NULL,
        name       nvarchar(128) COLLATE DATABASE_DEFAULT NOT NULL,
        type       nvarchar(128) COLLATE DATABASE_DEFAULT NOT NULL,
        max_length int           NOT NULL,
        [precision] int           NOT NULL,
        scale      int           NOT NULL,
        collation  nvarchar(128) COLLATE DATABASE_DEFAULT NULL,
        base_table  nvarchar(300) COLLATE DATABASE_DEFAULT NULL,
        base_column nvarchar(128) COLLATE DATABASE_DEFAULT NULL,
        masked      bit           NOT NULL
    );
    CREATE TABLE #sqlkmeans_finding
    (
        position int IDENTITY (1, 1) NOT NULL PRIMARY KEY,
        finding  nvarchar(max) COLLATE DATABASE_DEFAULT NOT NULL
    );
    CREATE TABLE #sqlkmeans_target_column
    (
        name nvarchar(128) COLLATE DATABASE_DEFAULT NOT NULL,
        type nvarchar(400) COLLATE DATABASE_DEFAULT NULL
    );

    -- A problem in no words: no column is known by name.
    SET @problem = N'';
    IF @key_types IS NULL
        EXECUTE sqlkmeans.describe_source @source = @source, @problem = @problem OUTPUT;
    IF @problem <> N''
        SET @problems = @problems + @problem
            + CASE JSON_VALUE(@definition, '$.engine')
                  WHEN N'spark' THEN N' (engine = "spark": if Spark has it, the client runs it: sqlkmeans run, '
                      + N'sqlkmeans assign)'
                  ELSE N'' END + @line;

    -- Python takes the last of two keys of one name, and the server, now the first and now all.
    INSERT INTO #sqlkmeans_finding (finding)
    SELECT N'definition: ' + d.[key] + N' is there twice'
    FROM (SELECT j.[key] COLLATE Latin1_General_100_BIN2 AS [key] FROM OPENJSON(@definition) AS j
          UNION ALL
          SELECT N'guard.' + j.[key] COLLATE Latin1_General_100_BIN2
          FROM OPENJSON(@definition, '$.guard') AS j
          UNION ALL
          SELECT N'features[' + f.[key] + N'].' + j.[key] COLLATE Latin1_General_100_BIN2
          FROM OPENJSON(@definition, '$.features') AS f
          CROSS APPLY OPENJSON(CASE f.[type] WHEN 5 THEN f.[value] ELSE N'{}' END) AS j) AS d
    GROUP BY d.[key]
    HAVING COUNT(*) > 1;

    EXECUTE sqlkmeans.check_target @target = @target, @problems = @problems OUTPUT;
    IF @target_name = sqlkmeans.quoted_name(@source, N'')
        SET @problems = @problems + N'target: is the source itself' + @line;

    SELECT @name = MIN(g.name)
    FROM sqlkmeans.segmentation AS g
    WHERE g.name <> @segmentation AND sqlkmeans.quoted_name(g.target, N'') = @target_name;
    IF @name IS NOT NULL
        SET @problems = @problems + N'target: ' + @target_name
            + N' is the target of segmentation ' + @name + N'; each needs its own' + @line;

    -- As the owner: a table that the caller cannot see must not be taken for a free name.
    DECLARE @statement nvarchar(max) = N'
        INSERT INTO #sqlkmeans_target_column (name, type)
        SELECT c.name,
            sqlkmeans.type_text(TYPE_NAME(c.system_type_id), c.max_length, c.[precision], c.scale, c.collation_name)
        FROM sys.columns AS c
        WHERE c.object_id = OBJECT_ID(@text);';
    IF @target_name IS NOT NULL
        EXECUTE sqlkmeans.as_owner @statement = @statement, @text = @target_name;

    IF @key IS NULL OR NOT EXISTS (SELECT 1 FROM OPENJSON(@key) AS j)
        SET @problems = @problems + N'key: missing; allowed: one or more columns of the source'
            + @line;

    WHILE EXISTS (SELECT 1 FROM OPENJSON(@key) AS j WHERE CAST(j.[key] AS int) = @position)
    BEGIN
        SELECT @name = j.[value] FROM OPENJSON(@key) AS j WHERE CAST(j.[key] AS int) = @position;
        SET @type = NULL;
        SELECT @bytes = @bytes + c.max_length, @type = COALESCE(
            sqlkmeans.type_text(c.type, c.max_length, c.[precision], c.scale, c.collation), N'')
        FROM #sqlkmeans_source_column AS c
        WHERE c.name = @name;
        IF @key_types IS NOT NULL
        BEGIN
            SET @given = NULL;
            SELECT @given = LEFT(j.[value], 100)
            FROM OPENJSON(@key_types) AS j
            WHERE j.[key] = CAST(@position AS nvarchar(10));
            SET @length = CASE WHEN @given LIKE N'nvarchar([1-9]%)'
                               THEN 2 * TRY_CAST(SUBSTRING(@given, 10, LEN(@given) - 10) AS smallint)
                               WHEN @given LIKE N'varbinary([1-9]%)'
                               THEN TRY_CAST(SUBSTRING(@given, 11, LEN(@given) - 11) AS smallint) END;
            -- Nothing of the caller's text comes into a statement, but for the number.
            SET @type = CASE
                WHEN @given = N'bigint' THEN N'bigint'
                WHEN @given = N'bit' THEN N'bit'
                WHEN @given = N'date' THEN N'date'
                WHEN @given = N'datetime2(6)' THEN N'datetime2(6)'
                WHEN @length NOT BETWEEN 1 AND 900 THEN NULL
                WHEN @given LIKE N'varbinary%' THEN sqlkmeans.type_text(N'varbinary', @length, 0, 0, NULL)
                ELSE sqlkmeans.type_text(N'nvarchar', @length, 0, 0,
                    CAST(DATABASEPROPERTYEX(DB_NAME(), N'Collation') AS nvarchar(128))) END;
            SET @bytes = @bytes + COALESCE(@length, 8);
        END;

        IF LOWER(@name) IN (N'segment_id', N'segment_name', N'distance', N'run_id', N'assigned_at',
                            N'valid_from', N'valid_to', N'cluster', N'departed', N'is_outlier')
            SET @problems = @problems + N'key: ' + @name
                + N' is a column of the segment table itself; give it another name in a view' + @line;
        ELSE IF LOWER(@name) LIKE N'sqlkmeans %'
            SET @problems = @problems + N'key: ' + @name + N' begins as columns of sqlkmeans itself '
                + N'do; give it another name in a view' + @line;
        ELSE IF @type IS NULL AND @key_types IS NOT NULL
            SET @problems = @problems + N'key: ' + @name + N' is ' + COALESCE(@given, N'of no type')
                + N'; allowed where the source is not in this database: bigint, bit, date, datetime2(6), '
                + N'nvarchar(n), varbinary(n); CAST it' + @line;
        ELSE IF @type IS NULL AND @problem IS NULL
            SET @problems = @problems + N'key: the source has no column ' + @name + @line;
        ELSE IF @type = N''
            SET @problems = @problems + N'key: ' + @name + N' is of a type that cannot be a key; '
                + N'CAST it in a view, text to nvarchar(450) at most' + @line;
        -- Where the source cannot be looked at, there is nothing to compare.
        ELSE IF @type IS NOT NULL AND EXISTS (SELECT 1 FROM #sqlkmeans_target_column AS t)
             AND NOT EXISTS (SELECT 1 FROM #sqlkmeans_target_column AS t WHERE t.name = @name AND t.type = @type)
            SET @problems = @problems + N'target: ' + @target_name
                + N' is there already, without a column ' + @name + N' ' + @type
                + N'; choose another target' + @line;

        SET @key_columns = @key_columns + QUOTENAME(@name) + N' ' + COALESCE(@type, N'')
            + N' NOT NULL, ';
        SET @position = @position + 1;
    END;

    IF @bytes > 900
        SET @problems = @problems + N'key: ' + CAST(@bytes AS nvarchar(10))
            + N' bytes wide; allowed: 900, the widest that a clustered index takes' + @line;

    IF EXISTS (SELECT 1 FROM #sqlkmeans_target_column AS t)
       AND ((SELECT COUNT(*) FROM #sqlkmeans_target_column AS t) <> @position + 5
            OR (SELECT COUNT(*) FROM #sqlkmeans_target_column AS t
                WHERE t.name IN (N'segment_id', N'distance', N'is_outlier', N'run_id',
                                 N'assigned_at')) <> 5)
        SET @problems = @problems + N'target: ' + @target_name + N' is there already and is no '
            + N'segment table of this key; choose another target' + @line;

    SET @position = 0;
    WHILE @problem IS NULL
          AND EXISTS (SELECT 1 FROM OPENJSON(@definition, '$.features') AS j
                      WHERE CAST(j.[key] AS int) = @position)
    BEGIN
        SELECT @name = COALESCE(JSON_VALUE(j.[value], '$.column'), N''),
            @kind = COALESCE(JSON_VALUE(j.[value], '$.type'), N'number')
        FROM OPENJSON(@definition, '$.features') AS j
        WHERE CAST(j.[key] AS int) = @position;
        SET @type = NULL;
        SELECT @type = c.type FROM #sqlkmeans_source_column AS c WHERE c.name = @name;
        SET @position = @position + 1;

        IF @type IS NULL
            SET @problems = @problems + N'features: the source has no column ' + @name + @line;
        ELSE IF @kind = N'number' AND @type NOT IN
            (N'bigint', N'int', N'smallint', N'tinyint', N'bit', N'decimal', N'numeric', N'money',
             N'smallmoney', N'float', N'real')
            SET @problems = @problems + N'features: ' + @name + N' is ' + @type
                + N'; allowed: a number or a bit'
                + CASE WHEN @type IN (N'char', N'varchar', N'nchar', N'nvarchar', N'uniqueidentifier')
                       THEN N', or {"column": ' + sqlkmeans.json_text(@name) + N', "type": "category"}'
                       WHEN @type IN (N'date', N'datetime', N'datetime2', N'smalldatetime',
                                      N'datetimeoffset')
                       THEN N', or {"column": ' + sqlkmeans.json_text(@name) + N', "type": "date"}'
                       ELSE N'' END + @line;
        ELSE IF @kind = N'category' AND @type NOT IN
            (N'char', N'varchar', N'nchar', N'nvarchar', N'uniqueidentifier', N'bit', N'tinyint',
             N'smallint', N'int', N'bigint')
            SET @problems = @problems + N'features: ' + @name + N' is ' + @type
                + N'; allowed for a category: text, uniqueidentifier, a bit or an integer' + @line;
        ELSE IF @kind = N'date' AND @type NOT IN
            (N'date', N'datetime', N'datetime2', N'smalldatetime', N'datetimeoffset')
            SET @problems = @problems + N'features: ' + @name + N' is ' + @type
                + N'; allowed for a date: date, datetime, datetime2, smalldatetime, datetimeoffset'
                + @line;
        IF @name = @sample_weight
            SET @problems = @problems + N'sample_weight: ' + @name
                + N' is a feature too; a weight counts customers, it does not measure them' + @line;
    END;

    IF NOT EXISTS (SELECT 1 FROM OPENJSON(@definition, '$.features') AS j)
        SET @problems = @problems + N'features: missing; allowed: one or more columns of the source'
            + @line;

    SET @position = 0;
    WHILE @problem IS NULL
          AND EXISTS (SELECT 1 FROM OPENJSON(@definition, '$.profile') AS j
                      WHERE CAST(j.[key] AS int) = @position)
    BEGIN
        SELECT @name = COALESCE(CASE j.[type] WHEN 1 THEN j.[value] END, N'')
        FROM OPENJSON(@definition, '$.profile') AS j
        WHERE CAST(j.[key] AS int) = @position;
        SET @type = NULL;
        SELECT @type = c.type FROM #sqlkmeans_source_column AS c WHERE c.name = @name;
        SET @position = @position + 1;

        IF @type IS NULL
            SET @problems = @problems + N'profile: the source has no column ' + @name + @line;
        ELSE IF sqlkmeans.profile_type(@type) IS NULL
            SET @problems = @problems + N'profile: ' + @name + N' is ' + @type
                + N', which is not described; allowed: a number, a bit, a date or text' + @line;
        IF EXISTS (SELECT 1 FROM OPENJSON(@key) AS j WHERE j.[value] = @name)
           OR EXISTS (SELECT 1 FROM OPENJSON(@definition, '$.features') AS j
                      WHERE JSON_VALUE(j.[value], '$.column') = @name)
            SET @problems = @problems + N'profile: ' + @name
                + N' is a key or a feature; allowed: columns that are neither' + @line;
        IF EXISTS (SELECT 1 FROM OPENJSON(@definition, '$.profile') AS j
                   WHERE j.[value] = @name AND CAST(j.[key] AS int) < @position - 1)
            SET @problems = @problems + N'profile: ' + @name + N' is named twice' + @line;
    END;
    IF @position > 100
        SET @problems = @problems + N'profile: ' + CAST(@position AS nvarchar(20))
            + N' columns given; allowed: 100' + @line;

    -- As the owner: who reads a view need not see the table behind it, and sees it masked all the same.
    SET @statement = N'
        UPDATE c
        SET masked = 1
        FROM #sqlkmeans_source_column AS c
        INNER JOIN sys.columns AS s
            ON s.object_id = OBJECT_ID(c.base_table) AND s.name COLLATE DATABASE_DEFAULT = c.base_column
        WHERE s.is_masked = 1;';
    EXECUTE sqlkmeans.as_owner @statement = @statement;
    INSERT INTO #sqlkmeans_finding (finding)
    SELECT c.name + N': is masked for you (dynamic data masking), so you would cluster what is not '
        + N'there; GRANT UNMASK to who runs this, or leave it out'
    FROM #sqlkmeans_source_column AS c
    WHERE c.masked = 1
      AND COALESCE(HAS_PERMS_BY_NAME(
              c.base_table, N'OBJECT', N'UNMASK', c.base_column, N'COLUMN'), 0) = 0
      AND COALESCE(HAS_PERMS_BY_NAME(NULL, N'DATABASE', N'UNMASK'), 0) = 0
      AND (c.name IN (@sample_weight, @changed_by)
           OR c.name IN (SELECT j.[value] COLLATE DATABASE_DEFAULT FROM OPENJSON(@key) AS j)
           OR c.name IN (SELECT j.[value] COLLATE DATABASE_DEFAULT
                         FROM OPENJSON(@definition, '$.profile') AS j)
           OR c.name IN (SELECT JSON_VALUE(j.[value], '$.column') COLLATE DATABASE_DEFAULT
                         FROM OPENJSON(@definition, '$.features') AS j));
    SET @position = 0;
    WHILE EXISTS (SELECT 1 FROM #sqlkmeans_finding AS f WHERE f.position > @position)
    BEGIN
        SELECT @position = MIN(f.position) FROM #sqlkmeans_finding AS f WHERE f.position > @position;
        SELECT @problems = @problems + f.finding + @line
        FROM #sqlkmeans_finding AS f
        WHERE f.position = @position;
    END;

    SET @type = NULL;
    IF @changed_by IS NOT NULL AND @problem IS NULL
       AND NOT EXISTS (SELECT 1 FROM #sqlkmeans_source_column AS c WHERE c.name = @changed_by)
    BEGIN
        IF @changed_by <> N'SYS_CHANGE_VERSION' COLLATE Latin1_General_100_BIN2
            SET @problems = @problems + N'changed_by: the source has no column ' + @changed_by
                + @line;
        ELSE IF OBJECT_ID(@table, N'U') IS NULL
             OR DB_ID(COALESCE(PARSENAME(@source, 3), DB_NAME())) <> DB_ID()
            SET @problems = @problems + N'changed_by: SYS_CHANGE_VERSION is Change Tracking of the '
                + N'source, which then has to be a table of this database' + @line;
        -- Looked at by itself, because not every server has that view.
        ELSE IF NOT EXISTS (SELECT 1 FROM sys.change_tracking_tables AS k
                            WHERE k.object_id = OBJECT_ID(@table, N'U'))
            SET @problems = @problems + N'changed_by: Change Tracking is off for ' + @table
                + N'; ALTER DATABASE CURRENT SET CHANGE_TRACKING = ON (CHANGE_RETENTION = 7 DAYS, '
                + N'AUTO_CLEANUP = ON) turns it on for the database, and then ALTER TABLE ' + @table
                + N' ENABLE CHANGE_TRACKING for the table' + @line;
    END;

    SELECT @type = c.type FROM #sqlkmeans_source_column AS c WHERE c.name = @sample_weight;
    IF @sample_weight IS NOT NULL AND @problem IS NULL
    BEGIN
        IF @type IS NULL
            SET @problems = @problems + N'sample_weight: the source has no column '
                + @sample_weight + @line;
        ELSE IF @type NOT IN (N'bigint', N'int', N'smallint', N'tinyint', N'bit', N'decimal',
                              N'numeric', N'money', N'smallmoney', N'float', N'real')
            SET @problems = @problems + N'sample_weight: ' + @sample_weight + N' is ' + @type
                + N'; allowed: a number or a bit' + @line;
        IF EXISTS (SELECT 1 FROM OPENJSON(@key) AS j WHERE j.[value] = @sample_weight)
            SET @problems = @problems + N'sample_weight: ' + @sample_weight
                + N' is the key too; a key identifies, it does not count' + @line;
    END;

    -- A NULL among the words would make all of them NULL, which raise_problems takes for none.
    SET @problems = COALESCE(@problems, N'definition: could not be checked; nothing was changed');
END;
GO

-- procedures/complete_features.sql
IF OBJECT_ID(N'sqlkmeans.complete_features', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.complete_features AS RETURN 0;');
GO
-- Features as a definition holds them: a JSON list of objects, each with every key. Adds a line to
-- @problems for each thing wrong.
ALTER PROCEDURE sqlkmeans.complete_features
    @key      nvarchar(max),
    @features nvarchar(max) OUTPUT,
    @problems nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @given nvarchar(max) = sqlkmeans.name_list(@features);
    DECLARE @list nvarchar(max) = N'';
    DECLARE @position int = 0;
    DECLARE @item nvarchar(max);
    DECLARE @name nvarchar(128);
    DECLARE @type nvarchar(100);
    DECLARE @transform nvarchar(100);
    DECLARE @weight nvarchar(100);
    DECLARE @winsorize nvarchar(max);
    DECLARE @min_frequency nvarchar(100);
    DECLARE @max_categories nvarchar(100);
    DECLARE @unit nvarchar(4000);
    DECLARE @unknown nvarchar(4000);

    IF @given IS NULL
        SET @problems = @problems
            + N'@features: not a list; allowed: a,b or JSON ["a", {"column": "b"}]' + @line;

    -- One at a time: adding up texts over the rows of a SELECT is not the same on every server.
    WHILE EXISTS (SELECT 1 FROM OPENJSON(@given) AS j WHERE CAST(j.[key] AS int) = @position)
    BEGIN
        SELECT @item = CASE j.[type] WHEN 1 THEN N'{"column":' + sqlkmeans.json_text(j.[value]) + N'}'
                                     WHEN 5 THEN j.[value] ELSE N'{}' END
        FROM OPENJSON(@given) AS j
        WHERE CAST(j.[key] AS int) = @position;
        SET @position = @position + 1;

        SELECT @name = COALESCE(j.[column], N''),
            @type = LOWER(COALESCE(j.type, N'number')),
            @transform = LOWER(COALESCE(j.transform, N'none')),
            @weight = COALESCE(j.weight, N'1.0'),
            @winsorize = COALESCE(j.quantiles, j.winsorize),
            @min_frequency = COALESCE(j.min_frequency, N'0.01'),
            @max_categories = COALESCE(j.max_categories, N'20'),
            @unit = LEFT(j.unit, 4000)
        FROM OPENJSON(@item) WITH (
            [column]       nvarchar(max) '$.column',
            type           nvarchar(max) '$.type',
            transform      nvarchar(max) '$.transform',
            weight         nvarchar(max) '$.weight',
            quantiles      nvarchar(max) '$.winsorize' AS JSON,
            winsorize      nvarchar(max) '$.winsorize',
            min_frequency  nvarchar(max) '$.min_frequency',
            max_categories nvarchar(max) '$.max_categories',
            unit           nvarchar(max) '$.unit'
        ) AS j;

        SELECT @unknown = MIN(k.[key])
        FROM OPENJSON(@item) AS k
        WHERE k.[key] NOT IN (N'column', N'type', N'transform', N'weight', N'winsorize',
                              N'min_frequency', N'max_categories', N'unit');
        IF @unknown IS NOT NULL
            SET @problems = @problems + N'@features: unknown key ' + LEFT(@unknown, 200)
                + N'; allowed: column, type, transform, weight, winsorize, min_frequency, '
                + N'max_categories, unit' + @line;
        IF @type NOT IN (N'number', N'category', N'date')
            SET @problems = @problems + N'@features: type ' + @type + N' of ' + @name
                + N' given; allowed: number, category, date' + @line;
        IF @transform NOT IN (N'none', N'log1p')
            SET @problems = @problems + N'@features: transform ' + @transform + N' of ' + @name
                + N' given; allowed: none, log1p' + @line;
        IF COALESCE(TRY_CAST(sqlkmeans.json_number(@weight) AS float), 0) <= 0
            SET @problems = @problems + N'@features: weight ' + @weight + N' of ' + @name
                + N' given; allowed: a number above 0' + @line;
        IF @winsorize IS NOT NULL AND sqlkmeans.quantiles(@winsorize) IS NULL
            SET @problems = @problems + N'@features: winsorize ' + LEFT(@winsorize, 100) + N' of '
                + @name + N' given; allowed: two quantiles, such as [0.01, 0.99]' + @line;
        IF @type = N'category' AND (@transform <> N'none' OR @winsorize IS NOT NULL)
            SET @problems = @problems + N'@features: transform or winsorize of ' + @name
                + N' given; allowed for number and date only' + @line;
        IF COALESCE(TRY_CAST(sqlkmeans.json_number(@min_frequency) AS float), -1) NOT BETWEEN 0 AND 1
            SET @problems = @problems + N'@features: min_frequency ' + @min_frequency + N' of '
                + @name + N' given; allowed: 0 to 1' + @line;
        IF COALESCE(TRY_CAST(@max_categories AS int), 0) NOT BETWEEN 2 AND 100
            SET @problems = @problems + N'@features: max_categories ' + @max_categories + N' of '
                + @name + N' given; allowed: 2 to 100' + @line;
        -- LEN does not count spaces at the end.
        IF LEN(@unit + N'.') NOT BETWEEN 2 AND 21 OR @unit LIKE N' %' OR @unit LIKE N'% '
           OR sqlkmeans.is_visible(@unit) = 0
            SET @problems = @problems + N'@features: unit of ' + @name
                + N' given; allowed: 1 to 20 characters that can be seen, such as NOK' + @line;
        IF @type <> N'number' AND @unit IS NOT NULL
            SET @problems = @problems + N'@features: unit of ' + @name
                + N' given; allowed for number only' + @line;
        IF EXISTS (SELECT 1 FROM OPENJSON(N'[' + @list + N']') AS d
                   WHERE JSON_VALUE(d.[value], '$.column') = @name)
            SET @problems = @problems + N'@features: ' + @name + N' is named twice' + @line;
        IF EXISTS (SELECT 1 FROM OPENJSON(@key) AS j WHERE j.[value] = @name)
            SET @problems = @problems + N'@features: ' + @name
                + N' is the key too; a key identifies, it does not measure' + @line;

        SET @list = @list + CASE WHEN @position > 1 THEN N',' ELSE N'' END
            + N'{"column":' + sqlkmeans.json_text(@name)
            + N',"type":' + sqlkmeans.json_text(@type)
            + N',"transform":' + sqlkmeans.json_text(@transform)
            + N',"weight":' + COALESCE(sqlkmeans.json_number(@weight), N'1.0')
            + N',"winsorize":' + COALESCE(sqlkmeans.quantiles(@winsorize), N'null')
            + N',"min_frequency":' + COALESCE(sqlkmeans.json_number(@min_frequency), N'0.01')
            + N',"max_categories":'
            + COALESCE(CAST(TRY_CAST(@max_categories AS int) AS nvarchar(20)), N'20')
            + N',"unit":' + COALESCE(sqlkmeans.json_text(@unit), N'null') + N'}';
    END;
    SET @features = N'[' + @list + N']';
END;
GO

-- procedures/complete_guard.sql
IF OBJECT_ID(N'sqlkmeans.complete_guard', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.complete_guard AS RETURN 0;');
GO
-- A guard as a definition holds it, with every key. Adds a line to @problems for each thing wrong.
ALTER PROCEDURE sqlkmeans.complete_guard
    @guard    nvarchar(max) OUTPUT,
    @problems nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @given nvarchar(max) = COALESCE(@guard, N'{}');
    DECLARE @unknown nvarchar(4000);
    DECLARE @position int = 0;
    DECLARE @name nvarchar(40);
    DECLARE @default nvarchar(40);
    DECLARE @value nvarchar(100);
    DECLARE @type int;

    IF ISJSON(@given) = 0 OR LEFT(LTRIM(@given), 1) <> N'{'
    BEGIN
        SET @problems = @problems + N'@guard: ' + LEFT(@given, 200)
            + N' given; allowed: a JSON object, such as {"action": "refuse", "psi": 0.5}' + @line;
        SET @given = N'{}';
    END;

    SELECT @unknown = MIN(j.[key])
    FROM OPENJSON(@given) AS j
    WHERE j.[key] NOT IN (N'action', N'rows', N'moved', N'psi', N'centroid_shift', N'distance',
                          N'silhouette', N'outliers');
    IF @unknown IS NOT NULL
        SET @problems = @problems + N'@guard: unknown key ' + LEFT(@unknown, 200) + N'; allowed: '
            + N'action, rows, moved, psi, centroid_shift, distance, silhouette, outliers' + @line;

    SET @guard = N'';
    WHILE @position < 8
    BEGIN
        SET @position = @position + 1;
        SELECT @name = k.name, @default = k.[default]
        FROM (VALUES (1, N'action', N'warn'), (2, N'rows', N'0.5'), (3, N'moved', N'0.5'),
                     (4, N'psi', N'0.25'), (5, N'centroid_shift', N'1.0'), (6, N'distance', N'0.5'),
                     (7, N'silhouette', N'0.2'), (8, N'outliers', N'0.05')) AS k (position, name, [default])
        WHERE k.position = @position;
        SET @type = NULL;
        SELECT @type = j.[type], @value = COALESCE(LEFT(j.[value], 100), N'null')
        FROM OPENJSON(@given) AS j
        WHERE j.[key] = @name;

        IF @type IS NULL
            SET @value = @default;
        ELSE IF @name = N'action' AND (@type <> 1 OR LOWER(@value) NOT IN (N'warn', N'refuse'))
            SET @problems = @problems + N'@guard: action ' + @value
                + N' given; allowed: warn, refuse' + @line;
        ELSE IF @name <> N'action'
                AND (@type <> 2 OR COALESCE(TRY_CAST(@value AS float), 0) <= 0)
            SET @problems = @problems + N'@guard: ' + @name + N' ' + @value
                + N' given; allowed: a number above 0' + @line;

        SET @guard = @guard + CASE WHEN @position > 1 THEN N',' ELSE N'' END
            + sqlkmeans.json_text(@name) + N':'
            + CASE WHEN @name = N'action' THEN sqlkmeans.json_text(LOWER(@value))
                   ELSE COALESCE(sqlkmeans.json_number(@value), @default) END;
    END;
    SET @guard = N'{' + @guard + N'}';
END;
GO

-- procedures/forget_model.sql
IF OBJECT_ID(N'sqlkmeans.forget_model', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.forget_model AS RETURN 0;');
GO
-- Deletes what a run that was not published has learnt so far.
ALTER PROCEDURE sqlkmeans.forget_model
    @run_id bigint
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DELETE FROM sqlkmeans.model_feature WHERE run_id = @run_id;
    DELETE FROM sqlkmeans.centroid WHERE run_id = @run_id;
    DELETE FROM sqlkmeans.feature_bin WHERE run_id = @run_id;
END;
GO

-- procedures/drop_staging.sql
IF OBJECT_ID(N'sqlkmeans.drop_staging', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.drop_staging AS RETURN 0;');
GO
-- Drops a run's staging table.
ALTER PROCEDURE sqlkmeans.drop_staging
    @run_id bigint
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @statement nvarchar(max) = N'DROP TABLE IF EXISTS sqlkmeans.'
        + QUOTENAME(N'staging_' + CAST(@run_id AS nvarchar(20))) + N';';

    EXECUTE sqlkmeans.as_owner @statement = @statement;
END;
GO

-- procedures/drop_parts.sql
IF OBJECT_ID(N'sqlkmeans.drop_parts', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.drop_parts AS RETURN 0;');
GO
-- Drops the heaps that create_parts made for runs of a segmentation that have ended. Who copies into one
-- holds its lock; a task that was given up may do so for long, and then the heap stays until the
-- segmentation's next run. The caller holds the segmentation's lock.
ALTER PROCEDURE sqlkmeans.drop_parts
    @segmentation nvarchar(128)
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @run_id bigint = 0;
    DECLARE @lock nvarchar(255);
    DECLARE @result int;
    DECLARE @statement nvarchar(max);

    WHILE 1 = 1
    BEGIN
        SELECT @run_id = MIN(r.run_id)
        FROM sqlkmeans.run AS r
        WHERE r.segmentation = @segmentation AND r.status <> N'running' AND r.run_id > @run_id
          AND OBJECT_ID(N'sqlkmeans.' + QUOTENAME(
                  N'staging_' + CAST(r.run_id AS nvarchar(20)) + N'_parts'), N'U') IS NOT NULL;
        IF @run_id IS NULL
            BREAK;

        SET @lock = N'sqlkmeans parts ' + CAST(@run_id AS nvarchar(20));
        EXECUTE @result = sys.sp_getapplock
            @Resource = @lock, @LockMode = N'Exclusive', @LockOwner = N'Session',
            @LockTimeout = 5000, @DbPrincipal = N'sqlkmeans_operator';
        IF @result >= 0
        BEGIN
            -- A copy has a session of its own, and may outlive the one that holds the lock: then the
            -- heap stays, and no run fails for it.
            BEGIN TRY
                SET @statement = N'SET LOCK_TIMEOUT 5000; DROP TABLE IF EXISTS sqlkmeans.'
                    + QUOTENAME(N'staging_' + CAST(@run_id AS nvarchar(20)) + N'_parts') + N';';
                EXECUTE sqlkmeans.as_owner @statement = @statement;
            END TRY
            BEGIN CATCH
                IF XACT_STATE() <> 0
                    ROLLBACK TRANSACTION;
            END CATCH;
            EXECUTE sys.sp_releaseapplock
                @Resource = @lock, @LockOwner = N'Session', @DbPrincipal = N'sqlkmeans_operator';
        END;
    END;
END;
GO

-- procedures/reclaim_runs.sql
IF OBJECT_ID(N'sqlkmeans.reclaim_runs', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.reclaim_runs AS RETURN 0;');
GO
-- Closes what killed runs left. The caller holds the lock, so none of them is alive.
ALTER PROCEDURE sqlkmeans.reclaim_runs
    @segmentation nvarchar(128)
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @run_id bigint;

    WHILE 1 = 1
    BEGIN
        SET @run_id = NULL;
        SELECT @run_id = MIN(r.run_id)
        FROM sqlkmeans.run AS r
        WHERE r.segmentation = @segmentation AND r.status = N'running';

        IF @run_id IS NULL
            BREAK;

        EXECUTE sqlkmeans.drop_staging @run_id = @run_id;
        EXECUTE sqlkmeans.forget_model @run_id = @run_id;

        UPDATE sqlkmeans.run
        SET status = N'failed',
            error = N'interrupted: the process ended before it finished',
            finished_at = SYSUTCDATETIME()
        WHERE run_id = @run_id;
    END;
END;
GO

-- procedures/delete_runs.sql
IF OBJECT_ID(N'sqlkmeans.delete_runs', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.delete_runs AS RETURN 0;');
GO
-- Deletes the runs in the caller's #sqlkmeans_old with all that they learnt, in one transaction.
ALTER PROCEDURE sqlkmeans.delete_runs
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    BEGIN TRY
        BEGIN TRANSACTION;
        DELETE t FROM sqlkmeans.k_score AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
        DELETE t FROM sqlkmeans.feature_drift AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
        DELETE t FROM sqlkmeans.feature_bin AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
        DELETE t FROM sqlkmeans.typical_customer AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
        DELETE t FROM sqlkmeans.segment_profile AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
        DELETE t FROM sqlkmeans.segment_feature AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
        DELETE t FROM sqlkmeans.segment AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
        DELETE t FROM sqlkmeans.centroid AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
        DELETE t FROM sqlkmeans.model_feature AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
        DELETE t FROM sqlkmeans.run AS t INNER JOIN #sqlkmeans_old AS o ON o.run_id = t.run_id;
        COMMIT TRANSACTION;
    END TRY
    BEGIN CATCH
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        THROW;
    END CATCH;
END;
GO

-- procedures/purge_history.sql
IF OBJECT_ID(N'sqlkmeans.purge_history', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.purge_history AS RETURN 0;');
GO
-- Deletes, or counts, the labels of a target's history that ended before a moment; those that are
-- valid now stay. In batches, each a transaction of its own, which a caller rolls back where it fails:
-- below 5,000 rows the server keeps readers out of the rows alone and not of the whole table, and the
-- log can be cut between two. The index that finds them is made by the first purge, so that who never
-- purges need not keep it up to date.
ALTER PROCEDURE sqlkmeans.purge_history
    @target  nvarchar(1000),
    @then    datetime2(6),
    @execute bit    = 1,
    @rows    bigint = NULL OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @history nvarchar(1000) = sqlkmeans.quoted_name(@target, N'_history');
    DECLARE @hold nvarchar(max) = N'SELECT @arrived = COUNT_BIG(*) FROM (SELECT TOP (1) 1 AS one FROM '
        + @history + N' WITH (TABLOCK, HOLDLOCK)) AS t;';
    DECLARE @statement nvarchar(max);
    DECLARE @problems nvarchar(max);
    DECLARE @found bigint;

    SET @rows = 0;
    EXECUTE sqlkmeans.as_owner
        @statement = N'SET @arrived = OBJECT_ID(@text, N''U'');', @text = @history,
        @arrived = @found OUTPUT;
    IF @found IS NULL OR @then IS NULL
        RETURN 0;

    IF @execute = 0
    BEGIN
        SET @statement = N'SELECT @arrived = COUNT_BIG(*) FROM ' + @history
            + N' AS h WHERE h.valid_to < @then;';
        EXECUTE sqlkmeans.as_owner @statement = @statement, @then = @then, @arrived = @rows OUTPUT;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.check_target @target = @target, @problems = @problems OUTPUT;
    EXECUTE sqlkmeans.raise_problems @number = 50004, @problems = @problems;
    SET @statement = N'
IF NOT EXISTS (SELECT 1 FROM sys.indexes AS i
               WHERE i.object_id = OBJECT_ID(@text, N''U'') AND i.name LIKE N''ix_history_valid_to%'')
    CREATE INDEX ix_history_valid_to ON ' + @history + N' (valid_to);';
    EXECUTE sqlkmeans.as_owner @statement = @statement, @text = @history;

    SET @statement = N'DELETE TOP (4000) FROM ' + @history
        + N' WHERE valid_to < @then; SET @arrived = ROWCOUNT_BIG();';
    WHILE @found > 0
    BEGIN
        -- To the end of the transaction nobody can put anything on the table.
        BEGIN TRANSACTION;
        EXECUTE sqlkmeans.as_owner @statement = @hold, @arrived = @found OUTPUT;
        EXECUTE sqlkmeans.check_target @target = @target, @problems = @problems OUTPUT;
        EXECUTE sqlkmeans.raise_problems @number = 50004, @problems = @problems;
        EXECUTE sqlkmeans.as_owner @statement = @statement, @then = @then, @arrived = @found OUTPUT;
        COMMIT TRANSACTION;
        SET @rows = @rows + @found;
    END;
END;
GO

-- procedures/expire_history.sql
IF OBJECT_ID(N'sqlkmeans.expire_history', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.expire_history AS RETURN 0;');
GO
-- Keeps the history as long as the definition's history_days say, after a run was published and under
-- its lock. Where that fails, the run stays published and gets a warning; the next run tries again.
ALTER PROCEDURE sqlkmeans.expire_history
    @run_id bigint
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @target nvarchar(1000);
    DECLARE @days int;
    DECLARE @then datetime2(6);
    DECLARE @warning nvarchar(max);

    SELECT @target = JSON_VALUE(r.definition, '$.target'),
        @days = TRY_CAST(JSON_VALUE(r.definition, '$.history_days') AS int)
    FROM sqlkmeans.run AS r
    WHERE r.run_id = @run_id;
    IF @days IS NULL
        RETURN 0;

    BEGIN TRY
        SET @then = DATEADD(day, -@days, SYSUTCDATETIME());
        EXECUTE sqlkmeans.purge_history @target = @target, @then = @then;
    END TRY
    BEGIN CATCH
        SET @warning = N'history_days: the history was not purged: ' + ERROR_MESSAGE();
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        EXECUTE sqlkmeans.add_warning @run_id = @run_id, @warning = @warning;
    END CATCH;
END;
GO

-- procedures/create_staging.sql
IF OBJECT_ID(N'sqlkmeans.create_staging', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.create_staging AS RETURN 0;');
GO
-- A run's staging table, which operators may fill and read. Names and types in @key_columns are
-- quoted by check_definition. A customer may be in it twice: as departed under the key that is
-- published, and under one that differs only where the collation does not look. Where
-- is_outlier is NULL, publishing tells by the distance.
ALTER PROCEDURE sqlkmeans.create_staging
    @run_id      bigint,
    @key         nvarchar(max),
    @key_columns nvarchar(max)
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @staging nvarchar(200) =
        N'sqlkmeans.' + QUOTENAME(N'staging_' + CAST(@run_id AS nvarchar(20)));
    DECLARE @statement nvarchar(max) = N'CREATE TABLE ' + @staging + N' (' + @key_columns
        + N'cluster int NOT NULL, distance float NOT NULL, departed bit NOT NULL DEFAULT (0), '
        + N'is_outlier bit NULL, '
        + N'PRIMARY KEY CLUSTERED (' + sqlkmeans.each_name(@key, N'{}', N', ') + N', departed));';

    EXECUTE sqlkmeans.as_owner @statement = @statement;
    SET @statement = N'GRANT SELECT, INSERT ON ' + @staging + N' TO sqlkmeans_operator;';
    EXECUTE sqlkmeans.as_owner @statement = @statement;
END;
GO

-- procedures/create_parts.sql
IF OBJECT_ID(N'sqlkmeans.create_parts', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.create_parts AS RETURN 0;');
GO
-- Makes a heap beside a run's staging table, which many sessions fill at once. Whoever writes a part
-- of the labels puts a number of his own beside them, and whoever publishes takes from it what he was
-- told of. It has no key: what an attempt left that failed must not stop the next one.
ALTER PROCEDURE sqlkmeans.create_parts
    @run_id bigint = NULL,
    @help   bit    = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@run_id', N'bigint', N'NULL',
                N'A running run; the heap is sqlkmeans.staging_<run_id>_parts.'),
            (2, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @problems nvarchar(max) = N'';
    DECLARE @key nvarchar(max);
    DECLARE @staging nvarchar(100) = N'staging_' + CAST(@run_id AS nvarchar(20));
    DECLARE @table nvarchar(200) = N'sqlkmeans.' + QUOTENAME(@staging + N'_parts');
    DECLARE @statement nvarchar(max);

    SELECT @key = JSON_QUERY(r.definition, '$.key')
    FROM sqlkmeans.run AS r
    WHERE r.run_id = @run_id AND r.status = N'running' AND r.kind <> N'choose_k';

    IF @key IS NULL
        SET @problems = @problems + N'@run_id: ' + COALESCE(CAST(@run_id AS nvarchar(20)), N'NULL')
            + N' given; allowed: a running run that publishes labels' + @line;
    EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;

    SET @statement = N'DROP TABLE IF EXISTS ' + @table + N';
SELECT ' + sqlkmeans.each_name(@key, N'{}', N', ')
        + N', cluster, distance, CAST(0 AS bigint) AS [sqlkmeans attempt] INTO ' + @table
        + N' FROM sqlkmeans.' + QUOTENAME(@staging) + N' WHERE 1 = 0;
GRANT SELECT, INSERT ON ' + @table + N' TO sqlkmeans_operator;';
    EXECUTE sqlkmeans.as_owner @statement = @statement;
END;
GO

-- procedures/mark_object.sql
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

-- procedures/create_segment_table.sql
IF OBJECT_ID(N'sqlkmeans.create_segment_table', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.create_segment_table AS RETURN 0;');
GO
-- Makes what is missing of a segmentation's table, its history and its view with names. Where
-- only one of table and history is there, the other is brought in line with it. Runs in the caller's
-- transaction, to whose end nobody else can put anything on them.
ALTER PROCEDURE sqlkmeans.create_segment_table
    @segmentation nvarchar(128),
    @target       nvarchar(1000),
    @key          nvarchar(max),
    @staging      nvarchar(200),
    @now          datetime2(6)
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @table nvarchar(1000) = sqlkmeans.quoted_name(@target, N'');
    DECLARE @history nvarchar(1000) = sqlkmeans.quoted_name(@target, N'_history');
    DECLARE @named nvarchar(1000) = sqlkmeans.quoted_name(@target, N'_named');
    DECLARE @keys nvarchar(max) = sqlkmeans.each_name(@key, N'{}', N', ');
    DECLARE @typed nvarchar(max);
    DECLARE @problems nvarchar(max);
    DECLARE @statement nvarchar(max);
    DECLARE @table_id bigint;
    DECLARE @history_id bigint;
    DECLARE @named_id bigint;

    -- As the owner, who sees every object. OBJECT_ID is NULL where there is none.
    SET @statement = N'SELECT @arrived = OBJECT_ID(N''' + REPLACE(@table, N'''', N'''''')
        + N'''), @moved = OBJECT_ID(N''' + REPLACE(@history, N'''', N'''''')
        + N'''), @departed = OBJECT_ID(N''' + REPLACE(@named, N'''', N'''''') + N''');';
    EXECUTE sqlkmeans.as_owner
        @statement = @statement, @arrived = @table_id OUTPUT, @moved = @history_id OUTPUT,
        @departed = @named_id OUTPUT;

    SET @statement = COALESCE(N'SELECT @arrived = COUNT_BIG(*) FROM (SELECT TOP (1) 1 AS one FROM '
        + CASE WHEN @table_id IS NOT NULL THEN @table END + N' WITH (TABLOCK, HOLDLOCK)) AS t;', N'')
        + COALESCE(N'SELECT @arrived = COUNT_BIG(*) FROM (SELECT TOP (1) 1 AS one FROM '
        + CASE WHEN @history_id IS NOT NULL THEN @history END + N' WITH (TABLOCK, HOLDLOCK)) AS t;', N'');
    IF @statement <> N''
        EXECUTE sqlkmeans.as_owner @statement = @statement;
    EXECUTE sqlkmeans.check_target @target = @target, @problems = @problems OUTPUT;
    EXECUTE sqlkmeans.raise_problems @number = 50004, @problems = @problems;

    IF @table_id IS NULL OR @history_id IS NULL
        EXECUTE sqlkmeans.describe_key
            @table = @staging, @key = @key, @key_columns = @typed OUTPUT;

    IF @history_id IS NULL
    BEGIN
        SET @statement = N'CREATE TABLE ' + @history + N' (' + @typed
            + N'segment_id int NOT NULL, distance float NOT NULL, is_outlier bit NOT NULL, '
            + N'valid_from datetime2(6) NOT NULL, '
            + N'valid_to datetime2(6) NULL, run_id bigint NOT NULL, PRIMARY KEY CLUSTERED ('
            + @keys + N', valid_from));';
        EXECUTE sqlkmeans.as_owner @statement = @statement;
        EXECUTE sqlkmeans.mark_object
            @segmentation = @segmentation, @target = @target, @suffix = N'_history', @kind = N'TABLE';

        IF @table_id IS NOT NULL
        BEGIN
            -- The table outlived its history: start the history from its labels.
            SET @statement = N'INSERT INTO ' + @history + N' (' + @keys
                + N', segment_id, distance, is_outlier, valid_from, valid_to, run_id) SELECT ' + @keys
                + N', segment_id, distance, is_outlier, assigned_at, NULL, run_id FROM ' + @table + N';';
            EXECUTE sqlkmeans.as_owner @statement = @statement;
        END;
    END;

    IF @table_id IS NULL
    BEGIN
        SET @statement = N'UPDATE ' + @history + N' SET valid_to = @now WHERE valid_to IS NULL;';
        EXECUTE sqlkmeans.as_owner @statement = @statement, @now = @now;
        SET @statement = N'CREATE TABLE ' + @table + N' (' + @typed
            + N'segment_id int NOT NULL, distance float NOT NULL, is_outlier bit NOT NULL, '
            + N'run_id bigint NOT NULL, '
            + N'assigned_at datetime2(6) NOT NULL, PRIMARY KEY CLUSTERED (' + @keys + N'));';
        EXECUTE sqlkmeans.as_owner @statement = @statement;
        EXECUTE sqlkmeans.mark_object
            @segmentation = @segmentation, @target = @target, @suffix = N'', @kind = N'TABLE';
    END;

    IF @named_id IS NULL
    BEGIN
        SET @statement = N'CREATE VIEW ' + @named + N' AS SELECT '
            + sqlkmeans.each_name(@key, N't.{}', N', ')
            + N', t.segment_id, t.distance, t.is_outlier, t.run_id, t.assigned_at, s.name AS segment_name FROM '
            + @table + N' AS t INNER JOIN sqlkmeans.segmentation AS g ON g.name = N'''
            + REPLACE(@segmentation, N'''', N'''''')
            + N''' LEFT JOIN sqlkmeans.segment AS s'
            + N' ON s.run_id = g.active_run_id AND s.segment_id = t.segment_id;';
        EXECUTE sqlkmeans.as_owner @statement = N'EXECUTE (@text);', @text = @statement;
        EXECUTE sqlkmeans.mark_object
            @segmentation = @segmentation, @target = @target, @suffix = N'_named', @kind = N'VIEW';
    END;
END;
GO

-- procedures/apply_labels.sql
IF OBJECT_ID(N'sqlkmeans.apply_labels', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.apply_labels AS RETURN 0;');
GO
-- Turns a run's staged labels into changes of the segment table and its history. Runs in the
-- caller's transaction, under the segmentation's lock. Where only changes were staged, customers
-- departed who are staged as departed; else those departed who are not staged. Who is an outlier, the
-- staged row says, or the limits of @publication do.
ALTER PROCEDURE sqlkmeans.apply_labels
    @segmentation nvarchar(128),
    @target       nvarchar(1000),
    @key          nvarchar(max),
    @run_id       bigint,
    @segment_ids  nvarchar(max),
    @now          datetime2(6),
    @tolerance    float,
    @changes_only bit = 0,
    @publication  nvarchar(max) = NULL,
    @arrived      bigint OUTPUT,
    @moved        bigint OUTPUT,
    @departed     bigint OUTPUT,
    @written      bigint OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @table nvarchar(1000) = sqlkmeans.quoted_name(@target, N'');
    DECLARE @history nvarchar(1000) = sqlkmeans.quoted_name(@target, N'_history');
    DECLARE @staging nvarchar(200) =
        N'sqlkmeans.' + QUOTENAME(N'staging_' + CAST(@run_id AS nvarchar(20)));
    DECLARE @keys nvarchar(max) = sqlkmeans.each_name(@key, N'{}', N', ');
    DECLARE @staged_keys nvarchar(max) = sqlkmeans.each_name(@key, N's.{}', N', ');
    DECLARE @published_keys nvarchar(max) = sqlkmeans.each_name(@key, N't.{}', N', ');
    DECLARE @same nvarchar(max) = sqlkmeans.each_name(@key, N't.{} = s.{}', N' AND ');
    DECLARE @changed nvarchar(max) = sqlkmeans.each_name(@key, N't.{} = c.{}', N' AND ');
    DECLARE @change_keys nvarchar(max) = sqlkmeans.each_name(@key, N'c.{}', N', ');
    DECLARE @statement nvarchar(max);
    DECLARE @found bigint;
    DECLARE @nameless bigint;

    EXECUTE sqlkmeans.create_segment_table
        @segmentation = @segmentation, @target = @target, @key = @key, @staging = @staging,
        @now = @now;

    -- A cluster without a segment would drop its customers from the result in silence. The table is
    -- asked for a row in the same breath: each text with a run's number in it is compiled anew.
    SET @statement = N'SELECT @moved = COUNT_BIG(*) FROM (SELECT DISTINCT l.cluster FROM '
        + @staging + N' AS l WHERE l.departed = 0) AS s WHERE NOT EXISTS '
        + N'(SELECT 1 FROM OPENJSON(@text) AS j WHERE CAST(j.[key] AS int) = s.cluster);
SELECT @arrived = COUNT_BIG(*) FROM (SELECT TOP (1) 1 AS one FROM ' + @table
        + N') AS t;';
    EXECUTE sqlkmeans.as_owner
        @statement = @statement, @text = @segment_ids, @arrived = @found OUTPUT,
        @moved = @nameless OUTPUT;
    IF @nameless > 0
        EXECUTE sqlkmeans.raise_problems @number = 50002,
            @problems = N'segment_ids: some staged clusters have no segment id';

    CREATE TABLE #sqlkmeans_outlier
    (
        segment_id       int   NOT NULL PRIMARY KEY,
        outlier_distance float NOT NULL
    );
    INSERT INTO #sqlkmeans_outlier (segment_id, outlier_distance)
    SELECT o.segment_id, o.outlier_distance FROM sqlkmeans.outlier_distances(@publication) AS o;

    DECLARE @labels nvarchar(max) = N'
SET NOCOUNT ON;
CREATE TABLE #sqlkmeans_cluster_segment
    (cluster int NOT NULL PRIMARY KEY, segment_id int NOT NULL, outlier_distance float NULL);
INSERT INTO #sqlkmeans_cluster_segment (cluster, segment_id, outlier_distance)
SELECT CAST(j.[key] AS int), CAST(j.[value] AS int), o.outlier_distance
FROM OPENJSON(@text) AS j
LEFT JOIN #sqlkmeans_outlier AS o ON o.segment_id = CAST(j.[value] AS int);
';
    DECLARE @staged nvarchar(max) = N'
FROM ' + @staging + N' AS s
INNER JOIN #sqlkmeans_cluster_segment AS l ON l.cluster = s.cluster
CROSS APPLY (SELECT COALESCE(s.is_outlier,
    CASE WHEN s.distance > l.outlier_distance THEN 1 ELSE 0 END) AS is_outlier) AS f
';

    IF @found = 0
        -- An empty table, loaded in key order under a table lock, is minimally logged where the
        -- recovery model allows it.
        SET @statement = @labels + N'
UPDATE ' + @history + N' SET valid_to = @now WHERE valid_to IS NULL;
INSERT INTO ' + @table + N' WITH (TABLOCK) (' + @keys + N', segment_id, distance, is_outlier, run_id, assigned_at)
SELECT ' + @staged_keys + N', l.segment_id, s.distance, f.is_outlier, @run_id, @now' + @staged + N'WHERE s.departed = 0
ORDER BY ' + @staged_keys + N';
SET @arrived = ROWCOUNT_BIG();
INSERT INTO ' + @history + N' WITH (TABLOCK) (' + @keys
            + N', segment_id, distance, is_outlier, valid_from, valid_to, run_id)
SELECT ' + @published_keys + N', t.segment_id, t.distance, t.is_outlier, @now, NULL, @run_id
FROM ' + @table + N' AS t
ORDER BY ' + @published_keys + N';
SET @moved = 0;
SET @departed = 0;
SET @written = @arrived;
';
    ELSE
        SET @statement = @labels + N'
-- What becomes of a customer: 0 another distance alone, 1 arrives, 2 moves, 3 departs, 4 becomes an
-- outlier or ceases to be one. A distance that would lie on the wrong side of its limit is written
-- too, though it hardly changed: later it tells who is one.
SELECT ' + @staged_keys + N', l.segment_id, s.distance, CAST(f.is_outlier AS bit) AS is_outlier,
    CASE WHEN t.segment_id IS NULL THEN 1 WHEN t.segment_id <> l.segment_id THEN 2
         WHEN t.is_outlier <> f.is_outlier THEN 4 ELSE 0 END
        AS [sqlkmeans change], t.assigned_at AS [sqlkmeans since]
INTO #sqlkmeans_change' + @staged + N'LEFT JOIN ' + @table + N' AS t ON ' + @same + N'
WHERE s.departed = 0
  AND (t.segment_id IS NULL
       OR t.segment_id <> l.segment_id
       OR t.is_outlier <> f.is_outlier
       OR ABS(t.distance - s.distance) > @tolerance
       OR (s.is_outlier IS NULL
           AND f.is_outlier <> CASE WHEN t.distance > l.outlier_distance THEN 1 ELSE 0 END));

INSERT INTO #sqlkmeans_change (' + @keys + N', segment_id, distance, is_outlier, [sqlkmeans change], [sqlkmeans since])
SELECT ' + @published_keys + N', 0, 0, 0, 3, t.assigned_at
FROM ' + @table + N' AS t
WHERE ' + CASE WHEN @changes_only = 1
            THEN N'EXISTS (SELECT 1 FROM ' + @staging + N' AS s WHERE ' + @same
                + N' AND s.departed = 1)
  AND ' ELSE N'' END + N'NOT EXISTS (SELECT 1 FROM ' + @staging + N' AS s WHERE ' + @same
            + N' AND s.departed = 0);

DECLARE @ended bigint;
SELECT @arrived = COALESCE(SUM(CASE WHEN n.change = 1 THEN n.customers ELSE 0 END), 0),
    @moved = COALESCE(SUM(CASE WHEN n.change = 2 THEN n.customers ELSE 0 END), 0),
    @departed = COALESCE(SUM(CASE WHEN n.change = 3 THEN n.customers ELSE 0 END), 0),
    @ended = COALESCE(SUM(CASE WHEN n.change IN (2, 3, 4) THEN n.customers ELSE 0 END), 0),
    @written = COALESCE(SUM(n.customers), 0)
FROM (SELECT c.[sqlkmeans change] AS change, COUNT_BIG(*) AS customers
      FROM #sqlkmeans_change AS c
      GROUP BY c.[sqlkmeans change]) AS n;

-- A statement without rows could read a table to its end to find that out.
-- A label and its row of the history begin at the same time, and the history is ordered by key and
-- time: so the row is found at once, however many a customer has.
DECLARE @closed bigint = 0;
IF @ended > 0
BEGIN
UPDATE t
SET valid_to = @now
FROM ' + @history + N' AS t
INNER JOIN #sqlkmeans_change AS c ON ' + @changed + N' AND t.valid_from = c.[sqlkmeans since]
WHERE t.valid_to IS NULL AND c.[sqlkmeans change] IN (2, 3, 4);
SET @closed = ROWCOUNT_BIG();
END;

-- Who arrives may have a row from before somebody deleted the label, and somebody may have changed
-- a time.
IF @arrived > 0 OR @closed < @ended
UPDATE t
SET valid_to = @now
FROM ' + @history + N' AS t
INNER JOIN #sqlkmeans_change AS c ON ' + @changed + N'
WHERE t.valid_to IS NULL AND c.[sqlkmeans change] IN (1, 2, 3, 4);

IF @arrived + @ended > @departed
INSERT INTO ' + @history + N' (' + @keys + N', segment_id, distance, is_outlier, valid_from, valid_to, run_id)
SELECT ' + @change_keys + N', c.segment_id, c.distance, c.is_outlier, @now, NULL, @run_id
FROM #sqlkmeans_change AS c
WHERE c.[sqlkmeans change] IN (1, 2, 4);

IF @written > 0
BEGIN
-- Under READ COMMITTED with locks, one statement could otherwise read some rows before and some
-- after the change. Where READ_COMMITTED_SNAPSHOT is on, nobody waits; where not, readers wait from
-- here on, so the history is written before.
DECLARE @any int;
SELECT TOP (1) @any = t.segment_id FROM ' + @table + N' AS t WITH (TABLOCKX, HOLDLOCK);

IF @ended > @departed
UPDATE t
SET segment_id = c.segment_id, distance = c.distance, is_outlier = c.is_outlier, run_id = @run_id,
    assigned_at = @now
FROM ' + @table + N' AS t
INNER JOIN #sqlkmeans_change AS c ON ' + @changed + N'
WHERE c.[sqlkmeans change] IN (2, 4);

IF @written > @arrived + @ended
UPDATE t
SET distance = c.distance
FROM ' + @table + N' AS t
INNER JOIN #sqlkmeans_change AS c ON ' + @changed + N'
WHERE c.[sqlkmeans change] = 0;

IF @departed > 0
DELETE t
FROM ' + @table + N' AS t
INNER JOIN #sqlkmeans_change AS c ON ' + @changed + N'
WHERE c.[sqlkmeans change] = 3;

IF @arrived > 0
INSERT INTO ' + @table + N' (' + @keys + N', segment_id, distance, is_outlier, run_id, assigned_at)
SELECT ' + @change_keys + N', c.segment_id, c.distance, c.is_outlier, @run_id, @now
FROM #sqlkmeans_change AS c
WHERE c.[sqlkmeans change] = 1;
END;
DROP TABLE #sqlkmeans_change;
';

    SET @statement = @statement + N'DROP TABLE #sqlkmeans_cluster_segment;';
    EXECUTE sqlkmeans.as_owner
        @statement = @statement, @run_id = @run_id, @text = @segment_ids, @now = @now,
        @tolerance = @tolerance, @arrived = @arrived OUTPUT, @moved = @moved OUTPUT,
        @departed = @departed OUTPUT, @written = @written OUTPUT;
END;
GO

-- procedures/check_sizes.sql
IF OBJECT_ID(N'sqlkmeans.check_sizes', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.check_sizes AS RETURN 0;');
GO
-- Refuses a publication of changes after which the segments are not as large as the run counted
-- them: somebody else changed the table since the run compared it with its labels.
ALTER PROCEDURE sqlkmeans.check_sizes
    @target      nvarchar(1000),
    @publication nvarchar(max)
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @segments nvarchar(max) = JSON_QUERY(@publication, '$.tables.segment');
    DECLARE @differences bigint;
    DECLARE @problems nvarchar(max);
    DECLARE @statement nvarchar(max) = N'INSERT INTO #sqlkmeans_held (segment_id, size) '
        + N'SELECT t.segment_id, COUNT_BIG(*) FROM ' + sqlkmeans.quoted_name(@target, N'')
        + N' AS t GROUP BY t.segment_id;';

    -- Counted on its own, the plan of a large table does not depend on a guess about the JSON.
    CREATE TABLE #sqlkmeans_held (segment_id int NOT NULL PRIMARY KEY, size bigint NOT NULL);
    EXECUTE sqlkmeans.as_owner @statement = @statement;

    SELECT @differences = COUNT_BIG(*)
    FROM #sqlkmeans_held AS h
    FULL JOIN (SELECT j.segment_id, j.size
               FROM OPENJSON(@segments) WITH (
                   segment_id int    '$.segment_id',
                   size       bigint '$.size'
               ) AS j
               WHERE j.segment_id > 0) AS e
        ON e.segment_id = h.segment_id
    WHERE COALESCE(h.size, 0) <> COALESCE(e.size, 0);
    IF @differences > 0
    BEGIN
        SET @problems = @target + N' was changed by somebody else while this run went on; '
            + N'nothing was published; run again';
        EXECUTE sqlkmeans.raise_problems @number = 50004, @problems = @problems;
    END;
END;
GO

-- procedures/store_result.sql
IF OBJECT_ID(N'sqlkmeans.store_result', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.store_result AS RETURN 0;');
GO
-- Writes what a publication says of its run: the run's own columns, model and segments.
ALTER PROCEDURE sqlkmeans.store_result
    @run_id      bigint,
    @publication nvarchar(max)
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    UPDATE r
    SET k = COALESCE(j.k, r.k),
        [rows] = COALESCE(j.[rows], r.[rows]),
        skipped = COALESCE(j.skipped, r.skipped),
        inertia = COALESCE(j.inertia, r.inertia),
        n_iter = COALESCE(j.n_iter, r.n_iter),
        silhouette = COALESCE(j.silhouette, r.silhouette),
        davies_bouldin = COALESCE(j.davies_bouldin, r.davies_bouldin),
        calinski_harabasz = COALESCE(j.calinski_harabasz, r.calinski_harabasz),
        seconds_read = COALESCE(j.seconds_read, r.seconds_read),
        seconds_fit = COALESCE(j.seconds_fit, r.seconds_fit),
        seconds_assign = COALESCE(j.seconds_assign, r.seconds_assign),
        seconds_publish = COALESCE(j.seconds_publish, r.seconds_publish),
        seconds_total = COALESCE(j.seconds_total, r.seconds_total),
        sqlkmeans_version = COALESCE(j.sqlkmeans_version, r.sqlkmeans_version),
        library_versions = COALESCE(j.library_object, j.library_versions, r.library_versions),
        -- Behind those that the run has already.
        warnings = CASE
            WHEN COALESCE(r.warnings, N'[]') = N'[]'
                THEN COALESCE(j.warning_list, j.warnings, r.warnings)
            WHEN COALESCE(j.warning_list, j.warnings, N'[]') = N'[]' THEN r.warnings
            ELSE LEFT(r.warnings, LEN(r.warnings) - 1) + N', '
                + STUFF(COALESCE(j.warning_list, j.warnings), 1, 1, N'') END,
        compared_run_id = COALESCE(j.compared_run_id, r.compared_run_id),
        psi = COALESCE(j.psi, r.psi),
        centroid_shift = COALESCE(j.centroid_shift, r.centroid_shift),
        mean_distance = COALESCE(j.mean_distance, r.mean_distance),
        recommendation = COALESCE(j.recommendation_object, j.recommendation, r.recommendation),
        high_water = COALESCE(j.high_water, r.high_water),
        outliers = COALESCE(j.outliers, r.outliers)
    FROM sqlkmeans.run AS r
    CROSS JOIN OPENJSON(@publication, '$.run') WITH (
        k                 int           '$.k',
        [rows]            bigint        '$.rows',
        skipped           bigint        '$.skipped',
        inertia           float         '$.inertia',
        n_iter            int           '$.n_iter',
        silhouette        float         '$.silhouette',
        davies_bouldin    float         '$.davies_bouldin',
        calinski_harabasz float         '$.calinski_harabasz',
        seconds_read      float         '$.seconds_read',
        seconds_fit       float         '$.seconds_fit',
        seconds_assign    float         '$.seconds_assign',
        seconds_publish   float         '$.seconds_publish',
        seconds_total     float         '$.seconds_total',
        sqlkmeans_version nvarchar(64)  '$.sqlkmeans_version',
        -- As JSON, or as a text that holds JSON.
        library_object    nvarchar(max) '$.library_versions' AS JSON,
        library_versions  nvarchar(max) '$.library_versions',
        warning_list      nvarchar(max) '$.warnings' AS JSON,
        warnings          nvarchar(max) '$.warnings',
        compared_run_id   bigint        '$.compared_run_id',
        psi               float         '$.psi',
        centroid_shift    float         '$.centroid_shift',
        mean_distance     float         '$.mean_distance',
        recommendation_object nvarchar(max) '$.recommendation' AS JSON,
        recommendation    nvarchar(max) '$.recommendation',
        high_water        nvarchar(100) '$.high_water',
        outliers          bigint        '$.outliers'
    ) AS j
    WHERE r.run_id = @run_id;

    INSERT INTO sqlkmeans.model_feature
        (run_id, position, feature, transform, weight, center, scale, fill, source_column, type,
         level, low, high, reference_date)
    SELECT @run_id, j.position, j.feature, j.transform, j.weight, j.center, j.scale, j.fill,
        COALESCE(j.source_column, j.feature), COALESCE(j.type, N'number'), j.level, j.low, j.high,
        j.reference_date
    FROM OPENJSON(@publication, '$.tables.model_feature') WITH (
        position       int           '$.position',
        feature        nvarchar(400) '$.feature',
        transform      nvarchar(16)  '$.transform',
        weight         float         '$.weight',
        center         float         '$.center',
        scale          float         '$.scale',
        fill           float         '$.fill',
        source_column  nvarchar(128) '$.source_column',
        type           nvarchar(16)  '$.type',
        level          nvarchar(400) '$.level',
        low            float         '$.low',
        high           float         '$.high',
        reference_date date          '$.reference_date'
    ) AS j;

    INSERT INTO sqlkmeans.centroid
        (run_id, segment_id, position, feature, value, scaled_value, outlier_distance)
    SELECT @run_id, j.segment_id, j.position, j.feature, j.value, j.scaled_value,
        j.outlier_distance
    FROM OPENJSON(@publication, '$.tables.centroid') WITH (
        segment_id       int           '$.segment_id',
        position         int           '$.position',
        feature          nvarchar(400) '$.feature',
        value            float         '$.value',
        scaled_value     float         '$.scaled_value',
        outlier_distance float         '$.outlier_distance'
    ) AS j;

    INSERT INTO sqlkmeans.segment
        (run_id, segment_id, name, name_source, description, size, share, within_ss, [rule],
         rule_precision, rule_coverage, silhouette, centroid_shift, outliers)
    SELECT @run_id, j.segment_id, j.name, j.name_source, j.description, j.size, j.share,
        j.within_ss, j.[rule], j.rule_precision, j.rule_coverage, j.silhouette, j.centroid_shift,
        j.outliers
    FROM OPENJSON(@publication, '$.tables.segment') WITH (
        segment_id     int           '$.segment_id',
        name           nvarchar(400) '$.name',
        name_source    nvarchar(16)  '$.name_source',
        description    nvarchar(max) '$.description',
        size           bigint        '$.size',
        share          float         '$.share',
        within_ss      float         '$.within_ss',
        [rule]         nvarchar(max) '$.rule',
        rule_precision float         '$.rule_precision',
        rule_coverage  float         '$.rule_coverage',
        silhouette     float         '$.silhouette',
        centroid_shift float         '$.centroid_shift',
        outliers       bigint        '$.outliers'
    ) AS j;

    INSERT INTO sqlkmeans.segment_feature
        (run_id, segment_id, position, feature, mean, deviation, [min], median, [max], missing,
         importance)
    SELECT @run_id, j.segment_id, j.position, j.feature, j.mean, j.deviation, j.[min], j.median,
        j.[max], j.missing, j.importance
    FROM OPENJSON(@publication, '$.tables.segment_feature') WITH (
        segment_id int           '$.segment_id',
        position   int           '$.position',
        feature    nvarchar(400) '$.feature',
        mean       float         '$.mean',
        deviation  float         '$.deviation',
        [min]      float         '$.min',
        median     float         '$.median',
        [max]      float         '$.max',
        missing    bigint        '$.missing',
        importance float         '$.importance'
    ) AS j;

    INSERT INTO sqlkmeans.segment_profile
        (run_id, segment_id, position, source_column, type, level, known, missing, mean, deviation,
         median, share, difference, difference_low, difference_high)
    SELECT @run_id, j.segment_id, j.position, j.source_column, j.type, j.level, j.known, j.missing,
        j.mean, j.deviation, j.median, j.share, j.difference, j.difference_low, j.difference_high
    FROM OPENJSON(@publication, '$.tables.segment_profile') WITH (
        segment_id      int           '$.segment_id',
        position        int           '$.position',
        source_column   nvarchar(128) '$.source_column',
        type            nvarchar(16)  '$.type',
        level           nvarchar(400) '$.level',
        known           bigint        '$.known',
        missing         bigint        '$.missing',
        mean            float         '$.mean',
        deviation       float         '$.deviation',
        median          float         '$.median',
        share           float         '$.share',
        difference      float         '$.difference',
        difference_low  float         '$.difference_low',
        difference_high float         '$.difference_high'
    ) AS j;

    INSERT INTO sqlkmeans.typical_customer
        (run_id, segment_id, [rank], customer, distance)
    SELECT @run_id, j.segment_id, j.[rank], j.customer, j.distance
    FROM OPENJSON(@publication, '$.tables.typical_customer') WITH (
        segment_id int           '$.segment_id',
        [rank]     int           '$.rank',
        customer   nvarchar(max) '$.customer',
        distance   float         '$.distance'
    ) AS j;

    INSERT INTO sqlkmeans.feature_bin
        (run_id, position, bin, feature, label, upper, customers)
    SELECT @run_id, j.position, j.bin, j.feature, j.label, j.upper, j.customers
    FROM OPENJSON(@publication, '$.tables.feature_bin') WITH (
        position  int           '$.position',
        bin       int           '$.bin',
        feature   nvarchar(400) '$.feature',
        label     nvarchar(400) '$.label',
        upper     float         '$.upper',
        customers bigint        '$.customers'
    ) AS j;

    INSERT INTO sqlkmeans.feature_drift
        (run_id, position, feature, psi, mean, previous_mean, missing_share,
         previous_missing_share)
    SELECT @run_id, j.position, j.feature, j.psi, j.mean, j.previous_mean, j.missing_share,
        j.previous_missing_share
    FROM OPENJSON(@publication, '$.tables.feature_drift') WITH (
        position               int           '$.position',
        feature                nvarchar(400) '$.feature',
        psi                    float         '$.psi',
        mean                   float         '$.mean',
        previous_mean          float         '$.previous_mean',
        missing_share          float         '$.missing_share',
        previous_missing_share float         '$.previous_missing_share'
    ) AS j;

    INSERT INTO sqlkmeans.k_score
        (run_id, k, inertia, silhouette, simplified_silhouette, davies_bouldin,
         calinski_harabasz, gap, gap_error, separation, separation_error, stability,
         smallest_share, recommended)
    SELECT @run_id, j.k, j.inertia, j.silhouette, j.simplified_silhouette, j.davies_bouldin,
        j.calinski_harabasz, j.gap, j.gap_error, j.separation, j.separation_error, j.stability,
        j.smallest_share, j.recommended
    FROM OPENJSON(@publication, '$.tables.k_score') WITH (
        k                     int   '$.k',
        inertia               float '$.inertia',
        silhouette            float '$.silhouette',
        simplified_silhouette float '$.simplified_silhouette',
        davies_bouldin        float '$.davies_bouldin',
        calinski_harabasz     float '$.calinski_harabasz',
        gap                   float '$.gap',
        gap_error             float '$.gap_error',
        separation            float '$.separation',
        separation_error      float '$.separation_error',
        stability             float '$.stability',
        smallest_share        float '$.smallest_share',
        recommended           bit   '$.recommended'
    ) AS j;
END;
GO

-- procedures/finish_run.sql
IF OBJECT_ID(N'sqlkmeans.finish_run', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.finish_run AS RETURN 0;');
GO
-- Records a run as published, makes its model the active one and drops what it staged.
ALTER PROCEDURE sqlkmeans.finish_run
    @segmentation nvarchar(128),
    @run_id       bigint,
    @model_run_id bigint,
    @now          datetime2(6),
    @arrived      bigint,
    @moved        bigint,
    @departed     bigint,
    @written      bigint
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    UPDATE sqlkmeans.run
    SET status = N'published',
        model_run_id = @model_run_id,
        changed = @arrived + @moved + @departed,
        arrived = @arrived,
        moved = @moved,
        departed = @departed,
        written = @written,
        published_at = @now,
        finished_at = @now,
        error = NULL
    WHERE run_id = @run_id;

    UPDATE sqlkmeans.segmentation
    SET active_run_id = @model_run_id, updated_at = @now
    WHERE name = @segmentation;

    EXECUTE sqlkmeans.drop_staging @run_id = @run_id;
END;
GO

-- procedures/finish_choice.sql
IF OBJECT_ID(N'sqlkmeans.finish_choice', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.finish_choice AS RETURN 0;');
GO
-- Records a choice of k as finished, with its scores. Labels, model and definition stay as they are.
ALTER PROCEDURE sqlkmeans.finish_choice
    @run_id      bigint        = NULL,
    @publication nvarchar(max) = NULL,
    @help        bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@run_id', N'bigint', N'NULL', N'A run of kind choose_k that start_run made.'),
            (2, N'@publication', N'nvarchar(max)', N'NULL',
                N'JSON: run, and tables with the rows of k_score.'),
            (3, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @problems nvarchar(max) = N'';
    DECLARE @status nvarchar(16);
    DECLARE @kind nvarchar(16);
    DECLARE @now datetime2(6) = SYSUTCDATETIME();

    SELECT @status = r.status, @kind = r.kind FROM sqlkmeans.run AS r WHERE r.run_id = @run_id;

    IF @status IS NULL
        SET @problems = @problems + N'@run_id: ' + COALESCE(CAST(@run_id AS nvarchar(20)), N'NULL')
            + N' given; allowed: a run in sqlkmeans.run' + @line;
    ELSE IF @status <> N'running' OR @kind <> N'choose_k'
        SET @problems = @problems + N'@run_id: run ' + CAST(@run_id AS nvarchar(20)) + N' is a '
            + @kind + N' that is ' + @status + N'; allowed: a running choose_k' + @line;
    IF @publication IS NULL OR ISJSON(@publication) = 0
        SET @problems = @problems + N'@publication: '
            + CASE WHEN @publication IS NULL THEN N'missing' ELSE N'not JSON' END
            + N'; allowed: a JSON object' + @line;

    EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;

    BEGIN TRY
        BEGIN TRANSACTION;

        EXECUTE sqlkmeans.store_result @run_id = @run_id, @publication = @publication;

        UPDATE sqlkmeans.run
        SET status = N'finished',
            finished_at = @now,
            seconds_total = DATEDIFF_BIG(millisecond, started_at, @now) / 1e3
        WHERE run_id = @run_id;

        COMMIT TRANSACTION;
    END TRY
    BEGIN CATCH
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        THROW;
    END CATCH;
END;
GO

-- procedures/scoring_text.sql
IF OBJECT_ID(N'sqlkmeans.scoring_text', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.scoring_text AS RETURN 0;');
GO
-- A query that scores one row with a stored model, as text: columns segment_id, segment_name,
-- distance, runner_up_distance and is_outlier. Values come from parameters named after the source's columns.
-- The arithmetic is the one that training used, in the same order; the nearest centroid is found by
-- squared distance, the lowest segment id wins a tie, and a missing value that the model does not
-- fill in makes all of them NULL.
-- With @row = 1 the values come from a row s, and the steps are apart, so that what one has found
-- can be kept: @values are the features in its own units, o1, o2 …; @scaled is what follows a row o
-- of them and makes z1, z2 … of a row z.
-- For explaining_text: @arguments are the parameters' names; @given a row of constants a feature, with
-- its position, its value in its own units and its z; @changed the columns, numbered @columns in all,
-- each as it is or as a row w, p of a changed feature has it.
-- The server writes an expression out wherever its name stands, and takes 65,535 identifiers and
-- constants in one. So centroids are rows of constants and the distance to one of them is written
-- once: no expression grows with their number.
ALTER PROCEDURE sqlkmeans.scoring_text
    @run_id     bigint,
    @row        bit,
    @parameters nvarchar(max) = NULL OUTPUT,
    @values     nvarchar(max) = NULL OUTPUT,
    @query      nvarchar(max) = NULL OUTPUT,
    @scaled     nvarchar(max) = NULL OUTPUT,
    @arguments  nvarchar(max) = NULL OUTPUT,
    @given      nvarchar(max) = NULL OUTPUT,
    @changed    nvarchar(max) = NULL OUTPUT,
    @columns    int           = NULL OUTPUT
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @filled nvarchar(max) = N'';
    DECLARE @transformed nvarchar(max) = N'';
    DECLARE @divided nvarchar(max) = N'';
    DECLARE @squared nvarchar(max) = N'';
    DECLARE @coordinates nvarchar(max) = N'';
    DECLARE @centroids nvarchar(max) = N'';
    DECLARE @centroid nvarchar(max);
    DECLARE @limit nvarchar(40);
    DECLARE @nearest nvarchar(max);
    DECLARE @value nvarchar(400);
    DECLARE @x nvarchar(40);
    DECLARE @o nvarchar(40);
    DECLARE @z nvarchar(40);
    DECLARE @position int = 0;
    DECLARE @segment_id int = 0;
    DECLARE @column nvarchar(400);
    DECLARE @first int;
    DECLARE @last int;
    DECLARE @date nvarchar(10);
    DECLARE @type nvarchar(16);
    DECLARE @transform nvarchar(16);
    DECLARE @center nvarchar(40);
    DECLARE @divisor nvarchar(40);
    DECLARE @fill nvarchar(40);
    DECLARE @name nvarchar(400);
    DECLARE @comma nvarchar(10) = N'';

    SELECT @parameters = N'', @values = N'', @arguments = N'', @given = N'', @changed = N'', @columns = 0;
    WHILE 1 = 1
    BEGIN
        SET @column = NULL;
        SELECT TOP (1) @position = f.position, @column = f.source_column, @type = f.type,
            @transform = f.transform, @date = CONVERT(nvarchar(10), f.reference_date, 112),
            @center = sqlkmeans.float_literal(f.center),
            @divisor = sqlkmeans.float_literal(f.scale / f.weight),
            @fill = sqlkmeans.float_literal(CASE WHEN f.fill < f.low THEN f.low
                                                 WHEN f.fill > f.high THEN f.high
                                                 ELSE f.fill END)
        FROM sqlkmeans.model_feature AS f
        WHERE f.run_id = @run_id AND f.position > @position
        ORDER BY f.position;
        IF @column IS NULL
            BREAK;

        SET @x = CAST(@position AS nvarchar(10));
        SELECT @first = MIN(f.position), @last = MAX(f.position)
        FROM sqlkmeans.model_feature AS f
        WHERE f.run_id = @run_id AND f.source_column = @column;
        IF @first = @position
        BEGIN
            SET @columns = @columns + 1;
            -- A column that is no plain word, differs from an earlier one in case only, or looks
            -- like such a parameter itself, becomes a parameter by its position.
            SET @value = CASE
                WHEN @row = 1 THEN N'CAST(s.' + QUOTENAME(@column) + N' AS '
                    + CASE @type WHEN N'category' THEN N'nvarchar(4000)' WHEN N'date' THEN N'date'
                                 ELSE N'float' END + N')'
                WHEN sqlkmeans.is_plain_name(@column) = 0
                     OR LOWER(@column) LIKE N'feature[_]%'
                     OR EXISTS (SELECT 1 FROM sqlkmeans.model_feature AS f
                                WHERE f.run_id = @run_id AND f.position < @position
                                  AND LOWER(f.source_column) = LOWER(@column))
                    THEN N'@feature_' + CAST(@columns AS nvarchar(10))
                ELSE N'@' + @column
            END;
            SET @parameters = @parameters + @comma + @value + CASE @type
                WHEN N'category' THEN N' nvarchar(4000)' WHEN N'date' THEN N' date' ELSE N' float' END;
            SET @arguments = @arguments + @comma + @value;
            SET @changed = @changed + @comma + N'MAX(CASE WHEN p.position BETWEEN ' + @x + N' AND '
                + CAST(@last AS nvarchar(10)) + N' THEN '
                + CASE @type WHEN N'category' THEN N'p.level'
                             WHEN N'date' THEN N'DATEADD(day, -CAST(w.new_value AS int), p.reference_date)'
                             ELSE N'w.new_value' END
                + N' ELSE ' + @value + N' END) AS v' + CAST(@columns AS nvarchar(10));
        END;
        SET @given = @given + @comma + N'(' + @x + N', ' + CASE @type
            WHEN N'category' THEN N'x.x' + @x
            WHEN N'date' THEN N'CAST(DATEDIFF(day, ' + @value + N', ''' + @date + N''') AS float)'
            ELSE @value END + N', z.z' + @x + N')';

        SET @values = @values + @comma + sqlkmeans.own_value(@run_id, @position, @value)
            + N' AS o' + @x;
        SET @o = N'o.o' + @x;
        SET @filled = @filled + @comma + COALESCE(N'COALESCE(' + @o + N', ' + @fill + N')', @o)
            + N' AS x' + @x;
        SET @transformed = @transformed + @comma
            + sqlkmeans.transformed(N'x.x' + @x, @transform) + N' AS t' + @x;
        SET @divided = @divided + @comma + N'(t.t' + @x + N' - (' + @center + N')) / ' + @divisor
            + N' AS z' + @x;
        SET @z = N'(z.z' + @x + N' - c.c' + @x + N')';
        SET @squared = @squared + CASE WHEN @squared = N'' THEN N'' ELSE N' + ' END
            + @z + N' * ' + @z;
        SET @coordinates = @coordinates + N', c' + @x;
        SET @comma = N', ';
    END;

    -- Who keeps what the steps find looks for the nearest centroid without @query.
    SET @comma = N'';
    WHILE @row = 0
    BEGIN
        SET @name = NULL;
        SELECT TOP (1) @segment_id = c.segment_id,
            @name = COALESCE(s.name, N'segment ' + CAST(c.segment_id AS nvarchar(20))),
            @limit = COALESCE(sqlkmeans.float_literal(c.outlier_distance), N'CAST(NULL AS float)')
        FROM sqlkmeans.centroid AS c
        LEFT JOIN sqlkmeans.segment AS s ON s.run_id = c.run_id AND s.segment_id = c.segment_id
        WHERE c.run_id = @run_id AND c.segment_id > @segment_id
        ORDER BY c.segment_id;
        IF @name IS NULL
            BREAK;

        SET @centroid = N'(' + CAST(@segment_id AS nvarchar(20)) + N', '
            + sqlkmeans.text_literal(@name) + N', ' + @limit + sqlkmeans.joined((
                SELECT N', ' + sqlkmeans.float_literal(c.scaled_value)
                FROM sqlkmeans.centroid AS c
                WHERE c.run_id = @run_id AND c.segment_id = @segment_id
                ORDER BY c.position
                FOR XML PATH('')), N'');
        SET @centroids = @centroids + @comma + @line + N'    ' + @centroid + N')';
        SET @comma = N', ';
    END;

    -- The distance has a name before it is aggregated: an aggregate may not mix columns of its own
    -- query with those of the row outside (error 8124).
    SET @centroids = N'FROM (VALUES ' + @centroids + N') AS c (segment_id, segment_name, outlier_distance'
        + @coordinates + N')' + @line
        + N'CROSS APPLY (SELECT ' + @squared + N' AS squared_distance) AS d' + @line;
    SET @scaled = N'CROSS APPLY (SELECT ' + @filled + N') AS x' + @line
        + N'CROSS APPLY (SELECT ' + @transformed + N') AS t' + @line
        + N'CROSS APPLY (SELECT ' + @divided + N') AS z';
    SET @nearest = N'OUTER APPLY (SELECT TOP (1) c.segment_id, c.segment_name, c.outlier_distance,'
        + @line + N'    d.squared_distance' + @line + @centroids
        + N'WHERE d.squared_distance IS NOT NULL' + @line
        + N'ORDER BY d.squared_distance, c.segment_id) AS n';
    SET @query = N'SELECT n.segment_id, n.segment_name, SQRT(n.squared_distance) AS distance,'
        + @line + N'    (SELECT SQRT(MIN(d.squared_distance))' + @line + @centroids
        + N'WHERE c.segment_id <> n.segment_id) AS runner_up_distance,' + @line
        + N'    CAST(CASE WHEN SQRT(n.squared_distance) > n.outlier_distance THEN 1' + @line
        + N'              WHEN n.segment_id IS NOT NULL THEN 0 END AS bit) AS is_outlier' + @line
        + N'FROM (SELECT ' + @values + N') AS o' + @line + @scaled + @line + @nearest;
END;
GO

-- procedures/explaining_text.sql
IF OBJECT_ID(N'sqlkmeans.explaining_text', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.explaining_text AS RETURN 0;');
GO
-- A query that says of one row why it is in its segment and what would move it, as text: a row a
-- feature of a stored model. @scorer is the name of the function that scores a row; values come from
-- parameters, as scoring_text has them. After the rows of feature and centroid, all is the same for
-- every model, and the same as sqlkmeans/tsql/explaining.py writes.
ALTER PROCEDURE sqlkmeans.explaining_text
    @run_id     bigint,
    @scorer     nvarchar(300),
    @parameters nvarchar(max) = NULL OUTPUT,
    @query      nvarchar(max) = NULL OUTPUT
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @run nvarchar(20) = CAST(@run_id AS nvarchar(20));
    DECLARE @values nvarchar(max);
    DECLARE @scaled nvarchar(max);
    DECLARE @arguments nvarchar(max);
    DECLARE @given nvarchar(max);
    DECLARE @changed nvarchar(max);
    DECLARE @columns int;

    EXECUTE sqlkmeans.scoring_text
        @run_id = @run_id, @row = 0, @parameters = @parameters OUTPUT, @values = @values OUTPUT,
        @scaled = @scaled OUTPUT, @arguments = @arguments OUTPUT, @given = @given OUTPUT,
        @changed = @changed OUTPUT, @columns = @columns OUTPUT;

    -- A column is of whole numbers where the least, the greatest and twice the median of every segment
    -- are, and of 0 and 1 where these are everyone's least and greatest.
    SET @query = N'WITH feature AS
(
    SELECT v.position, m.feature, v.given, COALESCE(v.given, m.fill) AS start, v.z, m.low, m.high,
        CASE WHEN m.type = N''date'' THEN CAST(DATEDIFF(day, ''99991231'', m.reference_date) AS float)
             WHEN w.is_whole = 1 AND w.least = 0e0 AND w.most = 1e0 THEN 0e0 END AS least,
        CASE WHEN m.type = N''date'' THEN CAST(DATEDIFF(day, ''00010101'', m.reference_date) AS float)
             WHEN w.is_whole = 1 AND w.least = 0e0 AND w.most = 1e0 THEN 1e0 END AS most,
        CASE m.transform WHEN N''log1p'' THEN 1 ELSE 0 END AS is_log, m.center,
        m.scale / m.weight AS divisor,
        CASE WHEN m.type = N''date'' OR w.is_whole = 1 THEN 1 ELSE 0 END AS is_whole,
        CASE WHEN m.type = N''date'' THEN m.reference_date END AS reference_date,
        CASE WHEN m.type = N''category'' THEN COALESCE(m.level, N''(other)'') END AS level
    FROM (SELECT ' + @values + N') AS o
    ' + @scaled + N'
    CROSS APPLY (VALUES ' + @given + N') AS v (position, given, z)
    INNER JOIN sqlkmeans.model_feature AS m ON m.run_id = ' + @run + N' AND m.position = v.position
    LEFT JOIN (
        SELECT s.position, MIN(s.[min]) AS least, MAX(s.[max]) AS most,
            MIN(CASE WHEN s.[min] = FLOOR(s.[min]) AND s.[max] = FLOOR(s.[max])
                      AND 2e0 * s.median = FLOOR(2e0 * s.median) THEN 1 ELSE 0 END) AS is_whole
        FROM sqlkmeans.segment_feature AS s
        WHERE s.run_id = ' + @run + N'
        GROUP BY s.position
    ) AS w ON w.position = v.position
),
centroid AS
(
    SELECT c.segment_id, c.position, c.scaled_value AS value
    FROM sqlkmeans.centroid AS c
    WHERE c.run_id = ' + @run + N'
),
';
    SET @query = @query + N'distance AS
(
    SELECT c.segment_id, SUM((f.z - c.value) * (f.z - c.value)) AS squared
    FROM feature AS f
    INNER JOIN centroid AS c ON c.position = f.position
    GROUP BY c.segment_id
),
decided AS
(
    SELECT TOP (1) n.segment_id, n.segment_name, d.squared, o.segment_id AS runner_up_id, o.squared AS far
    FROM '
        + @scorer + N'(' + @arguments + N')' + N' AS n
    INNER JOIN distance AS d ON d.segment_id = n.segment_id
    INNER JOIN distance AS o ON o.segment_id <> n.segment_id
    ORDER BY o.squared, o.segment_id
),
compared AS
(
    SELECT f.position, f.feature, f.given, f.start, f.z, f.low, f.high, f.least, f.most, f.is_log,
        f.center, f.divisor, f.is_whole, f.reference_date, f.level, g.segment_id, g.segment_name,
        g.runner_up_id, g.squared, a.value AS own_value,
        (f.z - r.value) * (f.z - r.value) - (f.z - a.value) * (f.z - a.value) AS part
    FROM decided AS g
    CROSS JOIN feature AS f
    INNER JOIN centroid AS a ON a.segment_id = g.segment_id AND a.position = f.position
    INNER JOIN centroid AS r ON r.segment_id = g.runner_up_id AND r.position = f.position
),
nearest AS
(
    SELECT p.position, w.new_value
    FROM compared AS p
    CROSS APPLY (
        SELECT TOP (1) y.new_value
        FROM centroid AS c
        INNER JOIN distance AS d ON d.segment_id = c.segment_id
        CROSS APPLY (SELECT c.value - p.own_value AS apart) AS h
        CROSS APPLY (SELECT CASE
                WHEN ABS(h.apart) > 1e-09 * (SQRT(d.squared) + SQRT(p.squared))
                THEN (d.squared - p.squared) / (2e0 * h.apart) END AS step) AS s
        CROSS APPLY (SELECT (p.z + s.step) * p.divisor + p.center AS t,
                p.divisor * (SQRT(p.squared) + ABS(s.step)) AS far) AS b
        CROSS APPLY (SELECT
                CASE WHEN p.is_log = 0 THEN b.t
                     WHEN b.t BETWEEN -30.0e0 AND 36.0e0
                     THEN CASE WHEN EXP(b.t) = 1e0 THEN b.t
                          ELSE (EXP(b.t) - 1e0) * (b.t / LOG(EXP(b.t))) END END AS border,
                CASE WHEN p.is_log = 0 THEN b.far
                     WHEN b.t BETWEEN -30.0e0 AND 36.0e0
                     THEN b.far * EXP(b.t) END AS way) AS x
        CROSS APPLY (SELECT CASE WHEN p.is_whole = 1 THEN 0e0
                WHEN 0.001e0 * x.way + 1e-10 * ABS(x.border) > 1e-290
                THEN FLOOR(LOG10(0.001e0 * x.way + 1e-10 * ABS(x.border))) END AS power) AS e
        CROSS APPLY (SELECT POWER(10e0, CASE WHEN e.power > 0e0 THEN e.power ELSE 0e0 END) AS unit,
                POWER(10e0, CASE WHEN e.power < 0e0 THEN -e.power ELSE 0e0 END) AS parts) AS u
        CROSS APPLY (SELECT CASE p.is_whole
                WHEN 1 THEN 1e-06 * x.way + 1e-10 * ABS(x.border)
                ELSE 0.001e0 * u.unit / u.parts END AS clear) AS q
        CROSS APPLY (SELECT CASE WHEN h.apart > 0e0
                THEN (FLOOR((x.border + q.clear) / u.unit * u.parts) + 1e0) / u.parts * u.unit
                ELSE (CEILING((x.border - q.clear) / u.unit * u.parts) - 1e0) / u.parts * u.unit
                END AS new_value) AS y
        WHERE c.position = p.position AND c.segment_id <> p.segment_id AND p.level IS NULL
          AND ABS(h.apart) * 1000000.0e0 > SQRT(p.squared) + ABS(s.step)
          AND (p.is_log = 0 OR y.new_value > -1e0)
          AND (p.least IS NULL OR y.new_value BETWEEN p.least AND p.most)
          AND (p.low IS NULL OR (h.apart > 0e0 AND x.border < p.high)
               OR (h.apart < 0e0 AND x.border > p.low))
        ORDER BY ABS(y.new_value - p.start), y.new_value DESC
    ) AS w
),
proposed AS
(
    SELECT p.position, MAX(w.new_value) AS new_value,
        '
        + @changed + N'
    FROM compared AS p
    LEFT JOIN nearest AS w ON w.position = p.position
    WHERE w.new_value IS NOT NULL OR (p.level IS NOT NULL AND p.given = 0e0)
    GROUP BY p.position
)
SELECT p.position, p.feature, p.segment_id, p.segment_name, p.runner_up_id,
    CASE WHEN SUM(p.part) OVER () > 0e0 THEN p.part / SUM(p.part) OVER () ELSE 0e0
        END AS contribution,
    CASE WHEN p.reference_date IS NULL THEN m.new_value END AS new_value,
    DATEADD(day, -CAST(CASE WHEN p.reference_date IS NOT NULL THEN m.new_value END AS int), p.reference_date) AS new_date,
    CASE WHEN m.segment_id IS NOT NULL THEN p.level END AS new_level,
    CASE WHEN p.reference_date IS NULL THEN m.new_value - p.given ELSE p.given - m.new_value
        END AS difference,
    m.segment_id AS new_segment_id, m.segment_name AS new_segment_name
FROM compared AS p
LEFT JOIN (
    SELECT v.position, v.new_value, n.segment_id, n.segment_name
    FROM proposed AS v
    CROSS APPLY '
        + @scorer + N'(' + sqlkmeans.each_number(@columns, N'v.v{}', N', ') + N')' + N' AS n
) AS m ON m.position = p.position AND m.segment_id <> p.segment_id';
END;
GO

-- procedures/watch_labels.sql
IF OBJECT_ID(N'sqlkmeans.watch_labels', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.watch_labels AS RETURN 0;');
GO
-- Compares labels with the run that fitted a model, from the caller's tables #sqlkmeans_bin,
-- #sqlkmeans_cluster and #sqlkmeans_profile (of the features of @scored_run_id, by default the model's
-- own): fills its table #sqlkmeans_drift, and says in @warnings, a line each, what is beyond a threshold of
-- the guard. Raises these where the guard refuses. Distances are not compared where @differing = 1: the
-- definition changed what they are.
ALTER PROCEDURE sqlkmeans.watch_labels
    @model_run_id  bigint,
    @definition    nvarchar(max),
    @rows          bigint,
    @warnings      nvarchar(max) OUTPUT,
    @scored_run_id bigint = NULL,
    @differing     bit    = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @run nvarchar(20) = CAST(@model_run_id AS nvarchar(20));
    DECLARE @allowed_rows float =
        COALESCE(TRY_CAST(JSON_VALUE(@definition, '$.guard.rows') AS float),
            sqlkmeans.shared_number(N'guard.rows'));
    DECLARE @allowed_psi float =
        COALESCE(TRY_CAST(JSON_VALUE(@definition, '$.guard.psi') AS float),
            sqlkmeans.shared_number(N'guard.psi'));
    DECLARE @allowed_distance float =
        COALESCE(TRY_CAST(JSON_VALUE(@definition, '$.guard.distance') AS float),
            sqlkmeans.shared_number(N'guard.distance'));
    DECLARE @allowed_outliers float =
        COALESCE(TRY_CAST(JSON_VALUE(@definition, '$.guard.outliers') AS float),
            sqlkmeans.shared_number(N'guard.outliers'));
    DECLARE @mean_distance float;
    DECLARE @outliers float;
    DECLARE @outliers_then float;
    DECLARE @least float = sqlkmeans.shared_number(N'least_share');
    DECLARE @rows_then bigint;
    DECLARE @distance_then float;
    DECLARE @position int = 0;
    DECLARE @psi float;

    -- The caller may have found some already.
    SET @warnings = COALESCE(@warnings, N'');
    IF @differing = 0
        SELECT @outliers = SUM(c.outliers) / CAST(@rows AS float), @mean_distance = SUM(c.size * c.distance) / @rows
        FROM #sqlkmeans_cluster AS c;
    -- Another share is another limit.
    SELECT @rows_then = r.[rows], @distance_then = r.mean_distance,
        @outliers_then = CASE
            WHEN TRY_CAST(JSON_VALUE(r.definition, '$.outlier') AS float)
                 = TRY_CAST(JSON_VALUE(@definition, '$.outlier') AS float)
            THEN r.outliers / NULLIF(CAST(r.[rows] AS float), 0) END
    FROM sqlkmeans.run AS r
    WHERE r.run_id = @model_run_id;

    -- Shares of each bin then and now; what is below @least counts as that, because a logarithm of
    -- 0 is none. The index is Siddiqi's (Credit Risk Scorecards, 2006).
    CREATE TABLE #sqlkmeans_share
    (
        position int   NOT NULL,
        bin      int   NOT NULL,
        earlier  float NOT NULL,
        present  float NOT NULL
    );
    INSERT INTO #sqlkmeans_share (position, bin, earlier, present)
    SELECT b.position, b.bin, b.customers / NULLIF(CAST(t.customers AS float), 0),
        COALESCE(n.customers, 0) / NULLIF(CAST(o.customers AS float), 0)
    FROM sqlkmeans.feature_bin AS b
    INNER JOIN (SELECT f.position, SUM(f.customers) AS customers
                FROM sqlkmeans.feature_bin AS f
                WHERE f.run_id = @model_run_id
                GROUP BY f.position) AS t
        ON t.position = b.position
    INNER JOIN (SELECT c.position, SUM(c.customers) AS customers FROM #sqlkmeans_bin AS c GROUP BY c.position)
        AS o ON o.position = b.position
    LEFT JOIN #sqlkmeans_bin AS n ON n.position = b.position AND n.bin = b.bin
    WHERE b.run_id = @model_run_id AND t.customers > 0;

    INSERT INTO #sqlkmeans_drift (position, feature, psi, missing_share, previous_missing_share)
    SELECT h.position, MIN(b.feature), SUM((p.present - p.earlier) * LOG(p.present / p.earlier)),
        SUM(CASE WHEN h.bin = 0 THEN h.present ELSE 0e0 END),
        SUM(CASE WHEN h.bin = 0 THEN h.earlier ELSE 0e0 END)
    FROM #sqlkmeans_share AS h
    CROSS APPLY (SELECT CASE WHEN h.earlier < @least THEN @least ELSE h.earlier END AS earlier,
                        CASE WHEN h.present < @least THEN @least ELSE h.present END AS present) AS p
    INNER JOIN sqlkmeans.feature_bin AS b
        ON b.run_id = @model_run_id AND b.position = h.position AND b.bin = h.bin
    GROUP BY h.position;

    -- A category has no mean of its own.
    UPDATE d
    SET mean = p.mean, previous_mean = e.mean
    FROM #sqlkmeans_drift AS d
    INNER JOIN sqlkmeans.model_feature AS f
        ON f.run_id = @model_run_id AND f.source_column = d.feature AND f.type <> N'category'
    INNER JOIN sqlkmeans.model_feature AS s
        ON s.run_id = COALESCE(@scored_run_id, @model_run_id) AND s.source_column = f.source_column
       AND s.type <> N'category'
    INNER JOIN #sqlkmeans_profile AS p ON p.cluster = 0 AND p.position = s.position
    LEFT JOIN sqlkmeans.segment_feature AS e
        ON e.run_id = @model_run_id AND e.segment_id = 0 AND e.position = f.position;

    IF ABS(@rows / NULLIF(CAST(@rows_then AS float), 0) - 1) > @allowed_rows
        SET @warnings = @warnings + N'customers: ' + CAST(@rows AS nvarchar(20)) + N', and '
            + CAST(@rows_then AS nvarchar(20)) + N' in run ' + @run + N' (allowed change '
            + CAST(@allowed_rows AS nvarchar(40)) + N')' + @line;

    WHILE 1 = 1
    BEGIN
        SET @psi = NULL;
        SELECT TOP (1) @position = d.position, @psi = d.psi
        FROM #sqlkmeans_drift AS d
        WHERE d.position > @position
        ORDER BY d.position;
        IF @psi IS NULL
            BREAK;
        IF @psi > @allowed_psi
            SELECT TOP (1) @warnings = @warnings + b.feature + N': drifted since run ' + @run
                + N' (PSI ' + sqlkmeans.number_text(ROUND(@psi, 2)) + N', allowed '
                + CAST(@allowed_psi AS nvarchar(40)) + N'): '
                + sqlkmeans.number_text(ROUND(100 * h.present, 0)) + N'% are ' + b.label
                + N', and ' + sqlkmeans.number_text(ROUND(100 * h.earlier, 0))
                + N'% were' + @line
            FROM #sqlkmeans_share AS h
            INNER JOIN sqlkmeans.feature_bin AS b
                ON b.run_id = @model_run_id AND b.position = h.position AND b.bin = h.bin
            WHERE h.position = @position
            ORDER BY ABS(h.present - h.earlier) DESC, h.bin;
    END;

    IF @mean_distance > @distance_then * (1 + @allowed_distance)
        SET @warnings = @warnings + N'distance: ' + CAST(@mean_distance AS nvarchar(40))
            + N' to the centroid on average, was ' + CAST(@distance_then AS nvarchar(40))
            + N' in run ' + @run + N' (allowed growth ' + CAST(@allowed_distance AS nvarchar(40))
            + N')' + @line;

    IF @outliers - @outliers_then > @allowed_outliers
        SET @warnings = @warnings + N'outliers: ' + sqlkmeans.number_text(ROUND(100 * @outliers, 1))
            + N'% of the customers, and ' + sqlkmeans.number_text(ROUND(100 * @outliers_then, 1))
            + N'% in run ' + @run + N' (allowed rise '
            + sqlkmeans.number_text(ROUND(100 * @allowed_outliers, 1)) + N'%)' + @line;

    IF @warnings <> N'' AND JSON_VALUE(@definition, '$.guard.action') = N'refuse'
    BEGIN
        SET @warnings = @warnings + N'nothing was published, because guard.action is "refuse"; '
            + N'correct the source, or define a higher threshold or "warn" (docs/operate.md)';
        EXECUTE sqlkmeans.raise_problems @number = 50003, @problems = @warnings;
    END;
END;
GO

-- procedures/publication_json.sql
IF OBJECT_ID(N'sqlkmeans.publication_json', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.publication_json AS RETURN 0;');
GO
-- What a run publishes that labels @rows of @total rows with the model of @model_run_id, from the
-- caller's tables: #sqlkmeans_cluster, #sqlkmeans_named, #sqlkmeans_profile, #sqlkmeans_drift, and
-- #sqlkmeans_bin where the model is an earlier run's. Labels were looked for @since then. @more are the
-- further members of the run, a comma before each.
ALTER PROCEDURE sqlkmeans.publication_json
    @run_id       bigint,
    @model_run_id bigint,
    @rows         bigint,
    @total        bigint,
    @since        datetime2(6),
    @more         nvarchar(max),
    @warnings     nvarchar(max),
    @publication  nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @active bigint;
    DECLARE @last_segment_id int;
    DECLARE @k int;
    DECLARE @within_ss float;
    DECLARE @inertia float;
    DECLARE @tolerance float;
    DECLARE @mean_distance float;
    DECLARE @outliers bigint;
    DECLARE @numbers nvarchar(max);

    SELECT @active = g.active_run_id, @last_segment_id = g.last_segment_id
    FROM sqlkmeans.run AS r
    INNER JOIN sqlkmeans.segmentation AS g ON g.name = r.segmentation
    WHERE r.run_id = @run_id;
    -- With the same model, whatever changed is written.
    SELECT @k = COUNT(*), @within_ss = SUM(c.within_ss), @inertia = SUM(c.inertia),
        @mean_distance = SUM(c.size * c.distance) / @rows, @outliers = SUM(c.outliers),
        @last_segment_id = CASE WHEN MAX(c.segment_id) > @last_segment_id THEN MAX(c.segment_id)
                                ELSE @last_segment_id END,
        @tolerance = CASE WHEN @model_run_id = @run_id THEN SQRT(SUM(c.inertia) / SUM(c.weight)) ELSE 0e0 END
            * sqlkmeans.shared_number(N'distance_tolerance'),
        @numbers = COALESCE(N',"outliers":' + CAST(SUM(c.outliers) AS nvarchar(20)), N'')
            + COALESCE(N',"centroid_shift":' + sqlkmeans.float_literal(MAX(c.centroid_shift)), N'')
    FROM #sqlkmeans_cluster AS c;
    SELECT @numbers = @numbers + COALESCE(N',"psi":' + sqlkmeans.float_literal(MAX(d.psi)), N'')
    FROM #sqlkmeans_drift AS d;
    SET @warnings = CASE WHEN @total > @rows THEN CAST(@total - @rows AS nvarchar(20))
        + N' rows were skipped because a feature is missing' + NCHAR(10) ELSE N'' END + @warnings;

    SET @publication = N'{"model_run_id":' + CAST(@model_run_id AS nvarchar(20))
        + N',"last_segment_id":' + CAST(@last_segment_id AS nvarchar(10))
        + N',"distance_tolerance":' + sqlkmeans.float_literal(@tolerance)
        + N',"run":{"k":' + CAST(@k AS nvarchar(10))
        + N',"rows":' + CAST(@rows AS nvarchar(20))
        + N',"skipped":' + CAST(@total - @rows AS nvarchar(20))
        + N',"inertia":' + sqlkmeans.float_literal(@inertia)
        + N',"mean_distance":' + sqlkmeans.float_literal(@mean_distance)
        + COALESCE(N',"compared_run_id":' + CAST(@active AS nvarchar(20)), N'') + @numbers
        + N',"seconds_assign":'
        + CAST(DATEDIFF(millisecond, @since, SYSUTCDATETIME()) / 1000.0 AS nvarchar(40)) + @more
        + N',"warnings":' + sqlkmeans.json_lines(@warnings) + N'},"tables":{"segment":' + (
            SELECT n.segment_id, n.name, n.name_source, n.description,
                COALESCE(c.size, @rows) AS size,
                COALESCE(c.size, @rows) / CAST(@rows AS float) AS share,
                COALESCE(c.within_ss, @within_ss) AS within_ss, c.centroid_shift,
                CASE n.segment_id WHEN 0 THEN @outliers ELSE c.outliers END AS outliers
            FROM #sqlkmeans_named AS n
            LEFT JOIN #sqlkmeans_cluster AS c ON c.segment_id = n.segment_id
            ORDER BY n.segment_id
            FOR JSON PATH
        ) + N',"segment_feature":' + (
            SELECT COALESCE(c.segment_id, 0) AS segment_id, p.position, f.feature, p.mean, p.deviation,
                p.lowest AS [min], p.median, p.highest AS [max], COALESCE(c.size, @rows) - p.known AS missing,
                p.importance
            FROM #sqlkmeans_profile AS p
            LEFT JOIN #sqlkmeans_cluster AS c ON c.cluster = p.cluster
            INNER JOIN sqlkmeans.model_feature AS f ON f.run_id = @model_run_id AND f.position = p.position
            FOR JSON PATH
        ) + COALESCE(N',"feature_drift":' + (
            SELECT d.position, d.feature, d.psi, d.mean, d.previous_mean, d.missing_share,
                d.previous_missing_share
            FROM #sqlkmeans_drift AS d
            FOR JSON PATH
        ), N'') + COALESCE(N',"feature_bin":' + (
            SELECT b.position, b.bin, b.feature, b.label, b.upper,
                COALESCE(n.customers, 0) AS customers
            FROM sqlkmeans.feature_bin AS b
            LEFT JOIN #sqlkmeans_bin AS n ON n.position = b.position AND n.bin = b.bin
            WHERE b.run_id = @model_run_id AND @model_run_id <> @run_id
            FOR JSON PATH
        ), N'') + N'}}';
END;
GO

-- procedures/store_in_columns.sql
IF OBJECT_ID(N'sqlkmeans.store_in_columns', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.store_in_columns AS RETURN 0;');
GO
-- Gives an empty temporary table of the caller a clustered columnstore index, so that a statement
-- reads in batches and only what it names. Where the server or its tempdb has none, the table stays
-- as it is, and so does one so wide that the index would ask for a gigabyte of memory: 4 MB a column
-- and thread, rows or none.
ALTER PROCEDURE sqlkmeans.store_in_columns
    @table nvarchar(128)
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @statement nvarchar(max) =
        N'CREATE CLUSTERED COLUMNSTORE INDEX sqlkmeans_columns ON ' + @table + N' WITH (MAXDOP = 1);';

    IF OBJECT_ID(N'sys.column_store_segments') IS NULL
       OR 200 < (SELECT COUNT(*) FROM tempdb.sys.columns AS c
                 WHERE c.object_id = OBJECT_ID(N'tempdb..' + @table))
        RETURN 0;
    BEGIN TRY
        EXECUTE sys.sp_executesql @statement;
    END TRY
    BEGIN CATCH
        IF XACT_STATE() = -1
            THROW;
    END CATCH;
END;
GO

-- procedures/prepare_rows.sql
IF OBJECT_ID(N'sqlkmeans.prepare_rows', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.prepare_rows AS RETURN 0;');
GO
-- Gives the caller's #sqlkmeans_prepared, #sqlkmeans_scored and #sqlkmeans_centroid the columns of a run:
-- the key, each feature in its own units, [sqlkmeans o1] …, and as K-Means sees it, [sqlkmeans z1] …;
-- and the tables of rows an index that is read in batches. Then fills #sqlkmeans_prepared, so that a
-- logarithm is taken once a row, with the model of @model_run_id: @relation stands behind FROM and makes
-- rows s of the features' columns; @given are the key and the five columns before the features.
ALTER PROCEDURE sqlkmeans.prepare_rows
    @run_id       bigint,
    @model_run_id bigint,
    @key          nvarchar(max),
    @features     int,
    @relation     nvarchar(max),
    @given        nvarchar(max),
    @rows         bigint OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @staging nvarchar(200) =
        N'sqlkmeans.' + QUOTENAME(N'staging_' + CAST(@run_id AS nvarchar(20)));
    DECLARE @key_columns nvarchar(max);
    DECLARE @values nvarchar(max);
    DECLARE @scaled nvarchar(max);
    DECLARE @statement nvarchar(max);

    -- Columns that are added to a temporary table by a nested batch stay in it. A key may be NULL
    -- here, so that all such rows are told of at once.
    EXECUTE sqlkmeans.describe_key
        @table = @staging, @key = @key, @key_columns = @key_columns OUTPUT,
        @before = N'ALTER TABLE #sqlkmeans_prepared ADD ', @after = N' NULL; ';
    SET @statement = @key_columns
        + REPLACE(@key_columns, N'ALTER TABLE #sqlkmeans_prepared ADD ',
                  N'ALTER TABLE #sqlkmeans_scored ADD ')
        + sqlkmeans.each_number(@features,
            N'ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans o{}] float NULL; '
            + N'ALTER TABLE #sqlkmeans_prepared ADD [sqlkmeans z{}] float NULL; '
            + N'ALTER TABLE #sqlkmeans_scored ADD [sqlkmeans o{}] float NULL; '
            + N'ALTER TABLE #sqlkmeans_centroid ADD z{} float NULL;', N' ');
    EXECUTE sys.sp_executesql @statement;
    EXECUTE sqlkmeans.store_in_columns @table = N'#sqlkmeans_prepared';
    EXECUTE sqlkmeans.store_in_columns @table = N'#sqlkmeans_scored';

    EXECUTE sqlkmeans.scoring_text
        @run_id = @model_run_id, @row = 1, @values = @values OUTPUT, @scaled = @scaled OUTPUT;
    SET @statement = N'INSERT INTO #sqlkmeans_prepared WITH (TABLOCK) (' + sqlkmeans.each_name(@key, N'{}', N', ')
        + N', [sqlkmeans row], [sqlkmeans previous], [sqlkmeans before], [sqlkmeans flagged], [sqlkmeans weight]'
        + sqlkmeans.each_number(@features, N', [sqlkmeans o{}], [sqlkmeans z{}]', N'') + N')
SELECT ' + @given + sqlkmeans.each_number(@features, N', o.o{}, z.z{}', N'') + N'
FROM ' + @relation + N'
CROSS APPLY (SELECT ' + @values + N') AS o
' + @scaled + N';
SET @rows = ROWCOUNT_BIG();';
    EXECUTE sys.sp_executesql @statement, N'@rows bigint OUTPUT', @rows = @rows OUTPUT;
END;
GO

-- procedures/score_rows.sql
IF OBJECT_ID(N'sqlkmeans.score_rows', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.score_rows AS RETURN 0;');
GO
-- Gives each row of the caller's #sqlkmeans_prepared that has all its features the nearest of the
-- clusters 1 to @k of its #sqlkmeans_point, in its #sqlkmeans_scored. Clusters are in the order of
-- their segment ids, because a tie goes to the lowest, as in the scoring function.
ALTER PROCEDURE sqlkmeans.score_rows
    @key      nvarchar(max),
    @k        int,
    @features int,
    @rows     bigint OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @carried nvarchar(max) = N', [sqlkmeans previous], [sqlkmeans before], [sqlkmeans flagged], [sqlkmeans weight]'
        + sqlkmeans.each_number(@features, N', [sqlkmeans o{}]', N'');
    DECLARE @statement nvarchar(max) = N'DELETE FROM #sqlkmeans_centroid;
INSERT INTO #sqlkmeans_centroid (cluster' + sqlkmeans.each_number(@features, N', z{}', N'') + N')
SELECT p.cluster' + sqlkmeans.each_number(
            @features, N', MAX(CASE p.position WHEN {} THEN p.scaled_value END)', N'') + N'
FROM #sqlkmeans_point AS p GROUP BY p.cluster;
' + sqlkmeans.centroid_values(@k, @features) + N'INSERT INTO #sqlkmeans_scored WITH (TABLOCK) ('
        + sqlkmeans.each_name(@key, N'{}', N', ') + @carried + N', [sqlkmeans cluster], [sqlkmeans distance])
SELECT ' + sqlkmeans.each_name(@key, N'r.{}', N', ') + REPLACE(@carried, N'[', N'r.[') + N', c.cluster, SQRT(' + sqlkmeans.each_number(
            @features, N'(r.[sqlkmeans z{}] - c.z{}) * (r.[sqlkmeans z{}] - c.z{})', N' + ') + N')
FROM #sqlkmeans_prepared AS r
' + sqlkmeans.nearest(@k, @features) + N'
INNER JOIN #sqlkmeans_centroid AS c ON c.cluster = n.cluster
WHERE ' + sqlkmeans.each_number(@features, N'r.[sqlkmeans z{}] IS NOT NULL', N' AND ') + N';
SET @rows = ROWCOUNT_BIG();';

    EXECUTE sys.sp_executesql @statement, N'@rows bigint OUTPUT', @rows = @rows OUTPUT;
END;
GO

-- procedures/describe_scored.sql
IF OBJECT_ID(N'sqlkmeans.describe_scored', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.describe_scored AS RETURN 0;');
GO
-- Looks once at the labelled rows of the caller's #sqlkmeans_scored, for 300 numbers at a time, whose
-- features are those of @run_id. Leaves in the caller's
--   #sqlkmeans_overlap  customers and distances of each cluster and earlier segment,
--   #sqlkmeans_cluster  those of each cluster,
--   #sqlkmeans_edge     how many values are not above an end of a bin, of @run_id or the published run,
--   #sqlkmeans_profile  each feature in its own units, with @medians = 1 medians by a second look: of
--                       each cluster, from sums about its #sqlkmeans_point, and of everyone as 0.
-- Only what lies near a median is sorted: near that of the run @near, or of @sample, a query of such
-- rows that may use what sqlkmeans.nearest does.
ALTER PROCEDURE sqlkmeans.describe_scored
    @run_id   bigint,
    @active   bigint,
    @features int,
    @medians  bit,
    @near     bigint        = NULL,
    @sample   nvarchar(max) = NULL
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @position int = 0;
    DECLARE @number int;
    DECLARE @numbers int = 0;
    DECLARE @x nvarchar(10);
    DECLARE @o nvarchar(40);
    DECLARE @group nvarchar(max) = N' FROM #sqlkmeans_scored AS s
INNER JOIN (SELECT a.cluster{} FROM #sqlkmeans_point AS a
            LEFT JOIN #sqlkmeans_bracket AS b
                ON b.position = a.position AND b.cluster IN (0, a.cluster)
            GROUP BY a.cluster) AS p
    ON p.cluster = s.[sqlkmeans cluster]';
    DECLARE @each nvarchar(max) = sqlkmeans.each_number(
        @features, N'({}, s.[sqlkmeans o{}])', N', ');
    DECLARE @origins nvarchar(max) = N'';
    DECLARE @sums nvarchar(max) = N'';
    DECLARE @moments nvarchar(max) = N'';
    DECLARE @counts nvarchar(max) = N'';
    DECLARE @below nvarchar(max) = N'';
    DECLARE @close nvarchar(max) = N'';
    DECLARE @any nvarchar(max) = N'';
    DECLARE @statement nvarchar(max);
    DECLARE @values nvarchar(max);

    -- A median lies from low to high, behind so many values that are lower.
    CREATE TABLE #sqlkmeans_bracket
    (
        cluster  int    NOT NULL,
        position int    NOT NULL,
        low      float  NOT NULL,
        high     float  NOT NULL,
        below    bigint NOT NULL
    );
    CREATE TABLE #sqlkmeans_near
    (
        cluster   int    NOT NULL,
        position  int    NOT NULL,
        value     float  NOT NULL,
        customers bigint NOT NULL
    );

    INSERT INTO #sqlkmeans_edge (position, number, upper)
    SELECT e.position, ROW_NUMBER() OVER (PARTITION BY e.position ORDER BY e.upper), e.upper
    FROM (SELECT DISTINCT f.position, b.upper
          FROM sqlkmeans.feature_bin AS b
          INNER JOIN sqlkmeans.model_feature AS f
              ON f.run_id = @run_id AND f.source_column = b.feature AND f.type <> N'category'
          WHERE b.run_id IN (@run_id, @active) AND b.upper IS NOT NULL) AS e;

    -- Beyond a width that is larger where rows are few, no median moves from night to night: where a
    -- tenth of the rows are others, it moves by 0.6 deviations over the root of their number.
    INSERT INTO #sqlkmeans_bracket (cluster, position, low, high, below)
    SELECT COALESCE(c.cluster, 0), f.position, f.median - t.reach, f.median + t.reach, 0
    FROM sqlkmeans.segment_feature AS f
    INNER JOIN sqlkmeans.segment AS s ON s.run_id = f.run_id AND s.segment_id = f.segment_id
    LEFT JOIN #sqlkmeans_cluster AS c ON c.segment_id = f.segment_id
    CROSS APPLY (SELECT f.deviation * (0.005e0 + 2e0 / SQRT(s.size + 1e0)) AS reach) AS t
    WHERE f.run_id = @near AND @medians = 1 AND f.median IS NOT NULL
      AND (c.cluster IS NOT NULL OR f.segment_id = 0);
    IF @sample IS NOT NULL
    BEGIN
        -- 8,000 rows are enough for four deviations of a rank to be few.
        SELECT @values = sqlkmeans.centroid_values(MAX(a.cluster), @features)
        FROM #sqlkmeans_point AS a;
        SET @statement = @values + N'INSERT INTO #sqlkmeans_near (cluster, position, value, customers)
SELECT g.cluster, v.position, v.value, COUNT_BIG(*)
FROM (' + @sample + N') AS s
CROSS APPLY (VALUES (0), (s.[sqlkmeans cluster])) AS g (cluster)
CROSS APPLY (VALUES ' + @each + N') AS v (position, value)
WHERE v.value IS NOT NULL
GROUP BY g.cluster, v.position, v.value;';
        EXECUTE sys.sp_executesql @statement;
        INSERT INTO #sqlkmeans_bracket (cluster, position, low, high, below)
        SELECT r.cluster, r.position,
            COALESCE(MIN(CASE WHEN n.customers / 2 - t.reach >= 1
                               AND r.upto >= n.customers / 2 - t.reach THEN r.value END), -1.7e308),
            COALESCE(MIN(CASE WHEN r.upto >= n.customers / 2 + t.reach THEN r.value END), 1.7e308), 0
        FROM (SELECT a.cluster, a.position, a.value,
                  SUM(a.customers) OVER (PARTITION BY a.cluster, a.position ORDER BY a.value
                                         ROWS UNBOUNDED PRECEDING) AS upto
              FROM #sqlkmeans_near AS a) AS r
        INNER JOIN (SELECT a.cluster, a.position, SUM(a.customers) AS customers
                    FROM #sqlkmeans_near AS a
                    GROUP BY a.cluster, a.position) AS n
            ON n.cluster = r.cluster AND n.position = r.position
        CROSS APPLY (SELECT 2 + CAST(2 * SQRT(n.customers) AS bigint) AS reach) AS t
        GROUP BY r.cluster, r.position;
        DELETE FROM #sqlkmeans_near;
    END;
    -- Of what neither has a value of, all.
    INSERT INTO #sqlkmeans_bracket (cluster, position, low, high, below)
    SELECT c.cluster, p.position, -1.7e308, 1.7e308, 0
    FROM (SELECT DISTINCT a.cluster FROM #sqlkmeans_point AS a UNION ALL SELECT 0) AS c
    CROSS JOIN (SELECT DISTINCT a.position FROM #sqlkmeans_point AS a) AS p
    WHERE NOT EXISTS (SELECT 1 FROM #sqlkmeans_bracket AS b
                      WHERE b.cluster = c.cluster AND b.position = p.position);

    WHILE @position < @features
    BEGIN
        SET @position = @position + 1;
        SET @x = CAST(@position AS nvarchar(10));
        SET @o = N's.[sqlkmeans o' + @x + N']';
        SET @origins = @origins + REPLACE(
            N', MAX(CASE a.position WHEN {} THEN a.value END) AS c{}', N'{}', @x);
        SET @sums = @sums + REPLACE(REPLACE(
            N', COUNT_BIG(~) AS n{}, SUM(~ - p.c{}) AS s{}, SUM((~ - p.c{}) * (~ - p.c{})) AS q{}'
            + N', MIN(~) AS l{}, MAX(~) AS h{}', N'~', @o), N'{}', @x);
        SET @moments = @moments + REPLACE(
            N', ({}, w.n{}, w.s{}, w.q{}, w.l{}, w.h{})', N'{}', @x);
        SET @numbers = @numbers + 5;
        SET @sums = @sums + sqlkmeans.joined((
            SELECT N', COUNT_BIG(CASE WHEN ' + @o + N' <= ' + sqlkmeans.float_literal(e.upper)
                + N' THEN 1 END) AS e' + @x + N'_' + CAST(e.number AS nvarchar(10))
            FROM #sqlkmeans_edge AS e
            WHERE e.position = @position
            ORDER BY e.number
            FOR XML PATH('')), N'');
        SELECT @number = COUNT(*) FROM #sqlkmeans_edge AS e WHERE e.position = @position;
        SET @counts = @counts + REPLACE(
            sqlkmeans.each_number(@number, N', (~, {}, w.e~_{})', N''), N'~', @x);
        SET @numbers = @numbers + @number;
        IF @medians = 1
        BEGIN
            SET @origins = @origins + REPLACE(
                N', MAX(CASE WHEN a.position = {} AND b.cluster > 0 THEN b.low END) AS cl{}'
                + N', MAX(CASE WHEN a.position = {} AND b.cluster > 0 THEN b.high END) AS ch{}'
                + N', MAX(CASE WHEN a.position = {} AND b.cluster = 0 THEN b.low END) AS el{}'
                + N', MAX(CASE WHEN a.position = {} AND b.cluster = 0 THEN b.high END) AS eh{}',
                N'{}', @x);
            SET @sums = @sums + REPLACE(REPLACE(
                N', COUNT_BIG(CASE WHEN ~ < p.cl{} THEN 1 END) AS cb{}'
                + N', COUNT_BIG(CASE WHEN ~ < p.el{} THEN 1 END) AS eb{}', N'~', @o), N'{}', @x);
            SET @below = @below + REPLACE(N', (w.cluster, {}, w.cb{}), (0, {}, w.eb{})', N'{}', @x);
            SET @close = @close + REPLACE(REPLACE(
                N', (s.[sqlkmeans cluster], {}, ~, p.cl{}, p.ch{}), (0, {}, ~, p.el{}, p.eh{})',
                N'~', @o), N'{}', @x);
            SET @any = @any + REPLACE(REPLACE(
                N' OR ~ BETWEEN p.cl{} AND p.ch{} OR ~ BETWEEN p.el{} AND p.eh{}',
                N'~', @o), N'{}', @x);
            SET @numbers = @numbers + 2;
        END;
        IF @numbers < 300 AND @position < @features
            CONTINUE;

        SET @statement = N'SELECT s.[sqlkmeans cluster] AS cluster, s.[sqlkmeans previous] AS previous,
    COUNT_BIG(*) AS customers, SUM(s.[sqlkmeans distance]) AS distance,
    SUM(s.[sqlkmeans distance] * s.[sqlkmeans distance]) AS within_ss,
    SUM(s.[sqlkmeans weight] * s.[sqlkmeans distance] * s.[sqlkmeans distance]) AS inertia,
    SUM(s.[sqlkmeans weight]) AS weight' + @sums + N'
INTO #sqlkmeans_wide
' + REPLACE(@group, N'{}', @origins) + N'
GROUP BY s.[sqlkmeans cluster], s.[sqlkmeans previous];
INSERT INTO #sqlkmeans_overlap (cluster, previous, customers, distance, within_ss, inertia, weight)
SELECT w.cluster, w.previous, w.customers, w.distance, w.within_ss, w.inertia, w.weight
FROM #sqlkmeans_wide AS w
WHERE NOT EXISTS (SELECT 1 FROM #sqlkmeans_overlap AS o);
INSERT INTO #sqlkmeans_profile (cluster, position, known, mean, deviation, lowest, highest)
SELECT m.cluster, m.position, m.known, p.value + m.rest, CASE
        WHEN m.highest > m.lowest AND m.spread > m.rest * m.rest THEN SQRT(m.spread - m.rest * m.rest)
        WHEN m.known > 0 THEN 0e0 END, m.lowest, m.highest
FROM (SELECT w.cluster, v.position, SUM(v.known) AS known, SUM(v.total) / NULLIF(SUM(v.known), 0) AS rest,
          SUM(v.squares) / NULLIF(SUM(v.known), 0) AS spread, MIN(v.lowest) AS lowest, MAX(v.highest) AS highest
      FROM #sqlkmeans_wide AS w
      CROSS APPLY (VALUES ' + STUFF(@moments, 1, 2, N'')
            + N') AS v (position, known, total, squares, lowest, highest)
      GROUP BY w.cluster, v.position) AS m
INNER JOIN #sqlkmeans_point AS p ON p.cluster = m.cluster AND p.position = m.position;
' + CASE WHEN @counts = N'' THEN N'' ELSE N'UPDATE e
SET customers = n.customers
FROM #sqlkmeans_edge AS e
INNER JOIN (SELECT v.position, v.number, SUM(v.customers) AS customers
            FROM #sqlkmeans_wide AS w
            CROSS APPLY (VALUES ' + STUFF(@counts, 1, 2, N'') + N') AS v (position, number, customers)
            GROUP BY v.position, v.number) AS n
    ON n.position = e.position AND n.number = e.number;
' END + CASE @medians WHEN 0 THEN N'' ELSE N'UPDATE b
SET below = n.customers
FROM #sqlkmeans_bracket AS b
INNER JOIN (SELECT v.cluster, v.position, SUM(v.customers) AS customers
            FROM #sqlkmeans_wide AS w
            CROSS APPLY (VALUES ' + STUFF(@below, 1, 2, N'') + N') AS v (cluster, position, customers)
            GROUP BY v.cluster, v.position) AS n
    ON n.cluster = b.cluster AND n.position = b.position;
INSERT INTO #sqlkmeans_near (cluster, position, value, customers)
SELECT v.cluster, v.position, v.value, COUNT_BIG(*)
' + REPLACE(@group, N'{}', @origins) + N'
CROSS APPLY (VALUES ' + STUFF(@close, 1, 2, N'') + N') AS v (cluster, position, value, low, high)
WHERE (' + STUFF(@any, 1, 4, N'') + N') AND v.value BETWEEN v.low AND v.high
GROUP BY v.cluster, v.position, v.value;
' END + N'DROP TABLE #sqlkmeans_wide;';
        EXECUTE sys.sp_executesql @statement;
        SELECT @numbers = 0, @origins = N'', @sums = N'', @moments = N'', @counts = N'',
            @below = N'', @close = N'', @any = N'';
    END;

    UPDATE #sqlkmeans_cluster SET size = 0;
    UPDATE c
    SET size = n.size, within_ss = n.within_ss, inertia = n.inertia, weight = n.weight,
        distance = n.distance / NULLIF(n.size, 0)
    FROM #sqlkmeans_cluster AS c
    INNER JOIN (SELECT o.cluster, SUM(o.customers) AS size, SUM(o.within_ss) AS within_ss,
                    SUM(o.inertia) AS inertia, SUM(o.weight) AS weight, SUM(o.distance) AS distance
                FROM #sqlkmeans_overlap AS o
                GROUP BY o.cluster) AS n
        ON n.cluster = c.cluster;

    -- Means and squares of parts add up to those of the whole (Chan, Golub & LeVeque, 1983).
    INSERT INTO #sqlkmeans_profile (cluster, position, known, mean, deviation, lowest, highest)
    SELECT 0, a.position, MAX(a.known), MAX(a.mean), SQRT(SUM(p.known * (p.deviation * p.deviation
            + (p.mean - a.mean) * (p.mean - a.mean))) / NULLIF(MAX(a.known), 0)),
        MIN(p.lowest), MAX(p.highest)
    FROM #sqlkmeans_profile AS p
    INNER JOIN (SELECT q.position, SUM(q.known) AS known, MAX(b.mean)
                    + SUM(q.known * (q.mean - b.mean)) / NULLIF(SUM(q.known), 0) AS mean
                FROM #sqlkmeans_profile AS q
                INNER JOIN (SELECT o.position, MIN(o.mean) AS mean
                            FROM #sqlkmeans_profile AS o
                            GROUP BY o.position) AS b
                    ON b.position = q.position
                GROUP BY q.position) AS a
        ON a.position = p.position
    GROUP BY a.position;
    UPDATE p
    SET importance = CASE WHEN p.cluster = 0 OR e.deviation = 0 THEN 0e0
                          ELSE COALESCE((p.mean - e.mean) / e.deviation, 0e0) END
    FROM #sqlkmeans_profile AS p
    INNER JOIN #sqlkmeans_profile AS e ON e.cluster = 0 AND e.position = p.position;

    WHILE @medians = 1
    BEGIN
        -- The mean of the two values in the middle, which are one where their number is odd.
        UPDATE p
        SET median = m.median
        FROM #sqlkmeans_profile AS p
        INNER JOIN (
            SELECT r.cluster, r.position, (MIN(CASE WHEN r.upto >= (r.known + 1) / 2 THEN r.value END)
                + MIN(CASE WHEN r.upto >= (r.known + 2) / 2 THEN r.value END)) / 2e0 AS median
            FROM (SELECT a.cluster, a.position, a.value, b.below, n.known,
                      b.below + SUM(a.customers) OVER (PARTITION BY a.cluster, a.position
                                                       ORDER BY a.value ROWS UNBOUNDED PRECEDING) AS upto
                  FROM #sqlkmeans_near AS a
                  INNER JOIN #sqlkmeans_bracket AS b
                      ON b.cluster = a.cluster AND b.position = a.position
                  INNER JOIN #sqlkmeans_profile AS n
                      ON n.cluster = a.cluster AND n.position = a.position) AS r
            GROUP BY r.cluster, r.position, r.below, r.known
            HAVING r.below < (r.known + 1) / 2 AND MAX(r.upto) >= (r.known + 2) / 2) AS m
            ON m.cluster = p.cluster AND m.position = p.position
        WHERE p.median IS NULL;

        -- Of a column whose median lies elsewhere, all values.
        SET @position = NULL;
        SELECT TOP (1) @position = p.position
        FROM #sqlkmeans_profile AS p
        WHERE p.known > 0 AND p.median IS NULL
        ORDER BY p.position;
        IF @position IS NULL
            BREAK;
        DELETE FROM #sqlkmeans_near WHERE position = @position;
        UPDATE #sqlkmeans_bracket SET below = 0 WHERE position = @position;
        SET @statement = N'INSERT INTO #sqlkmeans_near (cluster, position, value, customers)
SELECT g.cluster, @position, g.value, COUNT_BIG(*)
FROM #sqlkmeans_scored AS s
CROSS APPLY (VALUES (0, s.[sqlkmeans o{}]), (s.[sqlkmeans cluster], s.[sqlkmeans o{}])) AS g (cluster, value)
WHERE g.value IS NOT NULL
GROUP BY g.cluster, g.value;';
        SET @statement = REPLACE(@statement, N'{}', CAST(@position AS nvarchar(10)));
        EXECUTE sys.sp_executesql @statement, N'@position int', @position = @position;
    END;
END;
GO

-- procedures/profile_columns.sql
IF OBJECT_ID(N'sqlkmeans.profile_columns', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.profile_columns AS RETURN 0;');
GO
-- Describes the profile columns of a definition for each segment and for everyone, segment 0, and puts
-- them into the publication as its table segment_profile. @labels is a query of key and segment_id. The
-- source is read once more, as the caller: a customer who came since has no label and does not count.
-- Intervals are those of 95 %: Welch (1947) for means, with Student's quantile by Abramowitz and Stegun
-- (1964), 26.7.5, and Newcombe (1998), method 10, for shares; each times the others' share of
-- everyone, of whom a segment is a part.
ALTER PROCEDURE sqlkmeans.profile_columns
    @definition  nvarchar(max),
    @labels      nvarchar(max),
    @medians     bit,
    @publication nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @key nvarchar(max) = JSON_QUERY(@definition, '$.key');
    DECLARE @profile nvarchar(max) = JSON_QUERY(@definition, '$.profile');
    DECLARE @source nvarchar(max);
    DECLARE @problem nvarchar(max);
    DECLARE @today nvarchar(10) = CONVERT(nvarchar(10), CAST(SYSUTCDATETIME() AS date), 112);
    DECLARE @statement nvarchar(max);
    DECLARE @name nvarchar(128);
    DECLARE @type nvarchar(16);
    DECLARE @x nvarchar(40);
    DECLARE @values nvarchar(max) = N'';
    DECLARE @number int = 0;
    DECLARE @position int = 0;
    DECLARE @levels int;
    DECLARE @kept int;
    DECLARE @mean float;
    DECLARE @z float = sqlkmeans.shared_number(N'normal_quantile');
    DECLARE @min_frequency float = sqlkmeans.shared_number(N'min_frequency');
    DECLARE @max_categories int = sqlkmeans.shared_number(N'max_categories');

    IF NOT EXISTS (SELECT 1 FROM OPENJSON(@profile) AS j)
        RETURN 0;

    CREATE TABLE #sqlkmeans_source_column
    (
        position   int           NOT NULL,
        name       nvarchar(128) COLLATE DATABASE_DEFAULT NOT NULL,
        type       nvarchar(128) COLLATE DATABASE_DEFAULT NOT NULL,
        max_length int           NOT NULL,
        [precision] int           NOT NULL,
        scale      int           NOT NULL,
        collation  nvarchar(128) COLLATE DATABASE_DEFAULT NULL,
        base_table  nvarchar(300) COLLATE DATABASE_DEFAULT NULL,
        base_column nvarchar(128) COLLATE DATABASE_DEFAULT NULL,
        masked      bit           NOT NULL
    );
    CREATE TABLE #sqlkmeans_told (segment_id int NOT NULL);
    CREATE TABLE #sqlkmeans_told_level
    (
        level     nvarchar(102) COLLATE Latin1_General_100_BIN2 NOT NULL,
        customers bigint        NOT NULL,
        place     int           NOT NULL
    );
    CREATE TABLE #sqlkmeans_measured
    (
        segment_id      int           NOT NULL,
        position        int           NOT NULL,
        source_column   nvarchar(128) COLLATE DATABASE_DEFAULT NOT NULL,
        type            nvarchar(16)  COLLATE DATABASE_DEFAULT NOT NULL,
        level           nvarchar(400) COLLATE DATABASE_DEFAULT NULL,
        known           bigint        NOT NULL,
        missing         bigint        NOT NULL,
        mean            float         NULL,
        deviation       float         NULL,
        median          float         NULL,
        holding         bigint        NULL,
        difference      float         NULL,
        difference_low  float         NULL,
        difference_high float         NULL
    );

    -- JSON_VALUE gives NULL for a text of more than 4,000 characters.
    SELECT @source = j.source
    FROM OPENJSON(@definition) WITH (source nvarchar(max) '$.source') AS j;
    EXECUTE sqlkmeans.describe_source @source = @source, @problem = @problem OUTPUT;
    EXECUTE sqlkmeans.raise_problems @number = 50003, @problems = @problem;

    -- The columns once, so that all of them are of one moment. A category with one letter more than a
    -- level may have, so that a text that is too long is seen; a date as its age in days.
    SET @statement = N'';
    WHILE EXISTS (SELECT 1 FROM OPENJSON(@profile) AS j WHERE CAST(j.[key] AS int) = @number)
    BEGIN
        SELECT @name = j.[value] FROM OPENJSON(@profile) AS j WHERE CAST(j.[key] AS int) = @number;
        SET @type = NULL;
        SELECT @type = sqlkmeans.profile_type(c.type) FROM #sqlkmeans_source_column AS c WHERE c.name = @name;
        IF @type IS NULL
        BEGIN
            SET @problem = N'profile: ' + @name + N' is not in the source any more, or of another type';
            EXECUTE sqlkmeans.raise_problems @number = 50003, @problems = @problem;
        END;
        SET @number = @number + 1;
        SET @statement = @statement + N'ALTER TABLE #sqlkmeans_told ADD [sqlkmeans p'
            + CAST(@number AS nvarchar(10)) + N'] '
            + CASE @type WHEN N'category' THEN N'nvarchar(101) COLLATE DATABASE_DEFAULT NULL; '
                         ELSE N'float NULL; ' END;
        SET @values = @values + N', ' + CASE @type
            WHEN N'category' THEN N'CAST(s.' + QUOTENAME(@name) + N' AS nvarchar(101))'
            WHEN N'date' THEN N'CAST(DATEDIFF(day, CAST(s.' + QUOTENAME(@name) + N' AS date), '''
                + @today + N''') AS float)'
            WHEN N'boolean' THEN N'CAST(CAST(s.' + QUOTENAME(@name) + N' AS int) AS float)'
            ELSE N'CAST(s.' + QUOTENAME(@name) + N' AS float)' END;
    END;
    -- Columns that are added to a temporary table by a nested batch stay in it.
    EXECUTE sys.sp_executesql @statement;
    SET @statement = N'INSERT INTO #sqlkmeans_told WITH (TABLOCK) (segment_id'
        + sqlkmeans.each_number(@number, N', [sqlkmeans p{}]', N'') + N')
SELECT l.segment_id' + @values + N'
FROM (' + @labels + N') AS l
INNER JOIN ' + sqlkmeans.relation(@source) + N' ON '
        + sqlkmeans.each_name(@key, N's.{} = l.{}', N' AND ') + N';';
    EXECUTE sys.sp_executesql @statement;

    SET @number = 0;
    WHILE EXISTS (SELECT 1 FROM OPENJSON(@profile) AS j WHERE CAST(j.[key] AS int) = @number)
    BEGIN
        SELECT @name = j.[value] FROM OPENJSON(@profile) AS j WHERE CAST(j.[key] AS int) = @number;
        SELECT @type = sqlkmeans.profile_type(c.type) FROM #sqlkmeans_source_column AS c WHERE c.name = @name;
        SET @number = @number + 1;
        SET @position = @position + 1;
        SET @x = N't.[sqlkmeans p' + CAST(@number AS nvarchar(10)) + N']';

        IF @type IN (N'number', N'date')
        BEGIN
            SET @statement = N'SELECT @mean = COALESCE(AVG(' + @x + N'), 0e0) FROM #sqlkmeans_told AS t;';
            EXECUTE sys.sp_executesql @statement, N'@mean float OUTPUT', @mean = @mean OUTPUT;
            -- About everyone's mean: the difference of two large squares would have no digits.
            SET @statement = REPLACE(N'
INSERT INTO #sqlkmeans_measured
    (segment_id, position, source_column, type, known, missing, mean, deviation)
SELECT g.segment_id, @position, @name, @type, g.known, g.customers - g.known, @mean + g.apart,
    CASE WHEN g.squares - g.apart * g.apart > 1e-12 * g.squares
         THEN SQRT(g.squares - g.apart * g.apart) ELSE 0e0 * g.squares END
FROM (SELECT COALESCE(t.segment_id, 0) AS segment_id, COUNT_BIG(*) AS customers,
          COUNT_BIG({}) AS known, AVG({} - @mean) AS apart,
          AVG(({} - @mean) * ({} - @mean)) AS squares
      FROM #sqlkmeans_told AS t
      GROUP BY GROUPING SETS ((t.segment_id), ())) AS g;', N'{}', @x)
                + CASE WHEN @medians = 0 THEN N'' ELSE REPLACE(N'
UPDATE m
SET median = o.median
FROM #sqlkmeans_measured AS m
INNER JOIN (SELECT p.segment_id, AVG(p.value) AS median
            FROM (SELECT g.segment_id, {} AS value,
                      ROW_NUMBER() OVER (PARTITION BY g.segment_id ORDER BY {}) AS place
                  FROM #sqlkmeans_told AS t
                  CROSS APPLY (VALUES (0), (t.segment_id)) AS g (segment_id)
                  WHERE {} IS NOT NULL) AS p
            INNER JOIN #sqlkmeans_measured AS n
                ON n.segment_id = p.segment_id AND n.position = @position
               AND p.place BETWEEN (n.known + 1) / 2 AND (n.known + 2) / 2
            GROUP BY p.segment_id) AS o
    ON o.segment_id = m.segment_id
WHERE m.position = @position;', N'{}', @x) END;
            EXECUTE sys.sp_executesql @statement,
                N'@position int, @name nvarchar(128), @type nvarchar(16), @mean float',
                @position = @position, @name = @name, @type = @type, @mean = @mean;
            CONTINUE;
        END;
        IF @type = N'boolean'
        BEGIN
            SET @statement = REPLACE(N'
INSERT INTO #sqlkmeans_measured
    (segment_id, position, source_column, type, level, known, missing, holding)
SELECT COALESCE(t.segment_id, 0), @position, @name, @type, N''yes'', COUNT_BIG({}),
    COUNT_BIG(*) - COUNT_BIG({}), COUNT_BIG(CASE {} WHEN 1e0 THEN 1 END)
FROM #sqlkmeans_told AS t
GROUP BY GROUPING SETS ((t.segment_id), ());', N'{}', @x);
            EXECUTE sys.sp_executesql @statement,
                N'@position int, @name nvarchar(128), @type nvarchar(16)',
                @position = @position, @name = @name, @type = @type;
            CONTINUE;
        END;

        -- With a full stop behind, blanks at the end count too. Last are levels that have no row of their
        -- own: longer than 100 characters, or called as the rest is.
        DELETE FROM #sqlkmeans_told_level;
        SET @statement = REPLACE(N'
INSERT INTO #sqlkmeans_told_level (level, customers, place)
SELECT g.level, g.customers, ROW_NUMBER() OVER (
    ORDER BY CASE WHEN LEN(g.level) > 101 OR g.level = N''(other).'' THEN 1 ELSE 0 END,
        g.customers DESC, g.level)
FROM (SELECT ({} + N''.'') COLLATE Latin1_General_100_BIN2 AS level, COUNT_BIG(*) AS customers
      FROM #sqlkmeans_told AS t
      WHERE {} IS NOT NULL
      GROUP BY ({} + N''.'') COLLATE Latin1_General_100_BIN2) AS g;', N'{}', @x);
        EXECUTE sys.sp_executesql @statement;
        SELECT @levels = COUNT(*) FROM #sqlkmeans_told_level AS l;
        SELECT @kept = COUNT(*)
        FROM #sqlkmeans_told_level AS l
        CROSS JOIN (SELECT SUM(a.customers) AS customers FROM #sqlkmeans_told_level AS a) AS w
        WHERE LEN(l.level) <= 101 AND l.level <> N'(other).'
          AND l.customers >= @min_frequency * w.customers
          AND l.place <= @max_categories;
        DELETE FROM #sqlkmeans_told_level WHERE place > @kept;
        IF @kept = 0 OR @kept < @levels
            INSERT INTO #sqlkmeans_told_level (level, customers, place) VALUES (N'(other).', 0, @kept + 1);
        SET @statement = REPLACE(N'
INSERT INTO #sqlkmeans_measured
    (segment_id, position, source_column, type, level, known, missing, holding)
SELECT g.segment_id, @position + l.place - 1, @name, @type, LEFT(l.level, LEN(l.level) - 1), g.known,
    g.customers - g.known, COALESCE(h.customers, 0)
FROM (SELECT COALESCE(t.segment_id, 0) AS segment_id, COUNT_BIG(*) AS customers,
          COUNT_BIG({}) AS known
      FROM #sqlkmeans_told AS t
      GROUP BY GROUPING SETS ((t.segment_id), ())) AS g
CROSS JOIN #sqlkmeans_told_level AS l
LEFT JOIN (SELECT COALESCE(v.segment_id, 0) AS segment_id, v.place, COUNT_BIG(*) AS customers
           FROM (SELECT t.segment_id, COALESCE(a.place, @kept + 1) AS place
                 FROM #sqlkmeans_told AS t
                 LEFT JOIN #sqlkmeans_told_level AS a
                     ON a.level = ({} + N''.'') COLLATE Latin1_General_100_BIN2
                    AND a.place <= @kept
                 WHERE {} IS NOT NULL) AS v
           GROUP BY GROUPING SETS ((v.place, v.segment_id), (v.place))) AS h
    ON h.segment_id = g.segment_id AND h.place = l.place;', N'{}', @x);
        EXECUTE sys.sp_executesql @statement,
            N'@position int, @name nvarchar(128), @type nvarchar(16), @kept int',
            @position = @position, @name = @name, @type = @type, @kept = @kept;
        SET @position = @position + (SELECT COUNT(*) FROM #sqlkmeans_told_level AS l) - 1;
    END;

    -- Squares about the means: everyone's are the segment's, the others' and those between the two.
    UPDATE m
    SET difference = CASE WHEN e.deviation = 0 THEN 0e0 ELSE a.apart / e.deviation END,
        difference_low = (a.apart - r.reach) / NULLIF(e.deviation, 0),
        difference_high = (a.apart + r.reach) / NULLIF(e.deviation, 0)
    FROM #sqlkmeans_measured AS m
    INNER JOIN #sqlkmeans_measured AS e ON e.segment_id = 0 AND e.position = m.position
    CROSS APPLY (SELECT m.mean - e.mean AS apart, NULLIF(CAST(m.known AS float), 0) AS n,
                     NULLIF(CAST(e.known AS float), 0) AS everyone, CAST(e.known - m.known AS float) AS rest,
                     m.known * m.deviation * m.deviation AS own) AS a
    CROSS APPLY (SELECT e.known * e.deviation * e.deviation - a.own
                     - a.n * a.everyone / NULLIF(a.rest, 0) * a.apart * a.apart AS squares) AS o
    CROSS APPLY (SELECT a.own / a.n / NULLIF(a.n - 1, 0) AS own,
                     CASE WHEN o.squares > 0 THEN o.squares ELSE 0e0 END
                         / NULLIF(a.rest, 0) / NULLIF(a.rest - 1, 0) AS others) AS p
    CROSS APPLY (SELECT (p.own + p.others) * (p.own + p.others)
                     / NULLIF(p.own * p.own / NULLIF(a.n - 1, 0)
                              + p.others * p.others / NULLIF(a.rest - 1, 0), 0) AS freedom) AS f
    CROSS APPLY (SELECT CASE WHEN p.own + p.others = 0 THEN 0e0
                     ELSE SQRT(p.own + p.others) * a.rest / a.everyone
                         * (@z + 2.372271230298562e0 / f.freedom
                            + 2.8224986157396112e0 / f.freedom / f.freedom
                            + 2.555849679507722e0 / f.freedom / f.freedom / f.freedom
                            + 1.5895340533938225e0 / f.freedom / f.freedom / f.freedom / f.freedom)
                     END AS reach) AS r
    WHERE m.segment_id > 0 AND m.known > 0 AND m.type IN (N'number', N'date');

    UPDATE m
    SET difference = a.share - e.holding / NULLIF(CAST(e.known AS float), 0),
        difference_low = (a.share - o.share - SQRT((a.share - w.low) * (a.share - w.low)
                                                  + (v.high - o.share) * (v.high - o.share)))
            * a.rest / NULLIF(e.known, 0),
        difference_high = (a.share - o.share + SQRT((w.high - a.share) * (w.high - a.share)
                                                   + (o.share - v.low) * (o.share - v.low)))
            * a.rest / NULLIF(e.known, 0)
    FROM #sqlkmeans_measured AS m
    INNER JOIN #sqlkmeans_measured AS e ON e.segment_id = 0 AND e.position = m.position
    CROSS APPLY (SELECT NULLIF(CAST(m.known AS float), 0) AS n,
                     m.holding / NULLIF(CAST(m.known AS float), 0) AS share,
                     NULLIF(CAST(e.known - m.known AS float), 0) AS rest) AS a
    CROSS APPLY (SELECT (e.holding - m.holding) / a.rest AS share) AS o
    CROSS APPLY (SELECT (a.share + @z * @z / 2 / a.n - x.reach) / (1 + @z * @z / a.n) AS low,
                     (a.share + @z * @z / 2 / a.n + x.reach) / (1 + @z * @z / a.n) AS high
                 FROM (SELECT @z * SQRT(a.share * (1 - a.share) / a.n + @z * @z / 4 / a.n / a.n)
                           AS reach) AS x) AS w
    CROSS APPLY (SELECT (o.share + @z * @z / 2 / a.rest - x.reach) / (1 + @z * @z / a.rest) AS low,
                     (o.share + @z * @z / 2 / a.rest + x.reach) / (1 + @z * @z / a.rest) AS high
                 FROM (SELECT @z * SQRT(o.share * (1 - o.share) / a.rest
                                        + @z * @z / 4 / a.rest / a.rest) AS reach) AS x) AS v
    WHERE m.segment_id > 0 AND m.known > 0 AND m.type IN (N'boolean', N'category');

    SET @publication = JSON_MODIFY(@publication, '$.tables.segment_profile', JSON_QUERY((
        SELECT m.segment_id, m.position, m.source_column, m.type, m.level, m.known, m.missing, m.mean,
            m.deviation, m.median, m.holding / NULLIF(CAST(m.known AS float), 0) AS share,
            m.difference, m.difference_low, m.difference_high
        FROM #sqlkmeans_measured AS m
        FOR JSON PATH)));
END;
GO

-- procedures/count_bins.sql
IF OBJECT_ID(N'sqlkmeans.count_bins', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.count_bins AS RETURN 0;');
GO
-- Fills the caller's #sqlkmeans_bin anew from what describe_scored has left: how many of the rows are in
-- each bin of a run, 0 for the missing values of its column. The rows have the features of
-- @scored_run_id: columns that both have are counted, a category by its levels, wherever they stand.
ALTER PROCEDURE sqlkmeans.count_bins
    @run_id        bigint,
    @scored_run_id bigint
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DELETE FROM #sqlkmeans_bin;
    -- A bin but the last has an end, or a level; the last takes what is left.
    INSERT INTO #sqlkmeans_bin (position, bin, customers)
    SELECT c.position, b.bin, CASE
            WHEN b.bin = 0 THEN n.customers - k.known
            WHEN s.type = N'category' THEN COALESCE((
                SELECT CAST(ROUND(p.known * p.mean, 0) AS bigint)
                FROM sqlkmeans.model_feature AS f
                INNER JOIN #sqlkmeans_profile AS p ON p.cluster = 0 AND p.position = f.position
                WHERE f.run_id = @scored_run_id AND f.source_column = s.source_column
                  AND (f.level + N'.') COLLATE Latin1_General_100_BIN2 = b.label + N'.'), 0)
            ELSE COALESCE(e.customers - COALESCE(l.customers, 0), 0) END
    FROM (SELECT ROW_NUMBER() OVER (ORDER BY MIN(f.position)) AS position, f.source_column, f.type
          FROM sqlkmeans.model_feature AS f
          WHERE f.run_id = @run_id
          GROUP BY f.source_column, f.type) AS c
    INNER JOIN (SELECT MIN(f.position) AS position, f.source_column, f.type
                FROM sqlkmeans.model_feature AS f
                WHERE f.run_id = @scored_run_id
                GROUP BY f.source_column, f.type) AS s
        ON s.source_column = c.source_column
       AND CASE s.type WHEN N'category' THEN 1 ELSE 0 END
           = CASE c.type WHEN N'category' THEN 1 ELSE 0 END
    INNER JOIN sqlkmeans.feature_bin AS b
        ON b.run_id = @run_id AND b.position = c.position AND b.feature = c.source_column
    INNER JOIN #sqlkmeans_profile AS k ON k.cluster = 0 AND k.position = s.position
    CROSS JOIN (SELECT SUM(o.customers) AS customers FROM #sqlkmeans_overlap AS o) AS n
    LEFT JOIN #sqlkmeans_edge AS e ON e.position = s.position AND e.upper = b.upper
    LEFT JOIN sqlkmeans.feature_bin AS q
        ON q.run_id = @run_id AND q.position = b.position AND q.bin = b.bin - 1
    LEFT JOIN #sqlkmeans_edge AS l ON l.position = s.position AND l.upper = q.upper;

    UPDATE b
    SET customers = n.customers - o.customers
    FROM #sqlkmeans_bin AS b
    INNER JOIN (SELECT f.position, COALESCE(MAX(CASE f.label WHEN N'(other)' THEN f.bin END),
                    MAX(f.bin)) AS bin
                FROM sqlkmeans.feature_bin AS f
                WHERE f.run_id = @run_id
                GROUP BY f.position) AS t
        ON t.position = b.position AND t.bin = b.bin
    CROSS JOIN (SELECT SUM(a.customers) AS customers FROM #sqlkmeans_overlap AS a) AS n
    INNER JOIN (SELECT a.position, a.bin, SUM(d.customers) AS customers
                FROM #sqlkmeans_bin AS a
                INNER JOIN #sqlkmeans_bin AS d ON d.position = a.position AND d.bin <> a.bin
                GROUP BY a.position, a.bin) AS o
        ON o.position = b.position AND o.bin = b.bin;
END;
GO

-- procedures/refresh_function.sql
IF OBJECT_ID(N'sqlkmeans.refresh_function', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.refresh_function AS RETURN 0;');
GO
-- Makes the functions assign_<segmentation> and explain_<segmentation> anew from the active model.
-- Where that fails, the run stays published and gets a warning: labels matter more than a function.
ALTER PROCEDURE sqlkmeans.refresh_function
    @segmentation nvarchar(128),
    @run_id       bigint
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @assign nvarchar(300) = N'sqlkmeans.' + QUOTENAME(N'assign_' + @segmentation);
    DECLARE @function nvarchar(300) = @assign;
    DECLARE @parameters nvarchar(max);
    DECLARE @query nvarchar(max);
    DECLARE @statement nvarchar(max);
    DECLARE @active bigint;

    SELECT @active = g.active_run_id FROM sqlkmeans.segmentation AS g WHERE g.name = @segmentation;
    IF NOT EXISTS (SELECT 1 FROM sqlkmeans.centroid AS c WHERE c.run_id = @active)
        RETURN 0;

    BEGIN TRY
        EXECUTE sqlkmeans.scoring_text
            @run_id = @active, @row = 0, @parameters = @parameters OUTPUT, @query = @query OUTPUT;
        WHILE 1 = 1
        BEGIN
            SET @statement = CASE WHEN OBJECT_ID(@function, N'IF') IS NULL THEN N'CREATE' ELSE N'ALTER' END
                + N' FUNCTION ' + @function + N' (' + @parameters + N')' + NCHAR(10)
                + N'RETURNS TABLE' + NCHAR(10) + N'AS' + NCHAR(10) + N'RETURN (' + NCHAR(10) + @query
                + NCHAR(10) + N');';
            EXECUTE sqlkmeans.as_owner @statement = N'EXECUTE (@text);', @text = @statement;

            -- The other one calls the one that scores, so it comes second.
            IF @function <> @assign
                BREAK;
            SET @function = N'sqlkmeans.' + QUOTENAME(N'explain_' + @segmentation);
            EXECUTE sqlkmeans.explaining_text
                @run_id = @active, @scorer = @assign, @query = @query OUTPUT;
        END;
    END TRY
    BEGIN CATCH
        IF XACT_STATE() = -1
            THROW;
        SET @statement = N'the function ' + @function + N' was not made anew: ' + ERROR_MESSAGE();
        EXECUTE sqlkmeans.add_warning @run_id = @run_id, @warning = @statement;
    END CATCH;
END;
GO

-- procedures/lock_segmentation.sql
IF OBJECT_ID(N'sqlkmeans.lock_segmentation', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.lock_segmentation AS RETURN 0;');
GO
-- Holds a segmentation for this session until unlock_segmentation, the end of a run_segmentation or
-- assign_segments in it, or the session's end.
ALTER PROCEDURE sqlkmeans.lock_segmentation
    @segmentation nvarchar(128) = NULL,
    @help         bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@segmentation', N'nvarchar(128)', N'NULL',
                N'The segmentation to hold; error 50005 at once if another session holds it.'),
            (2, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    IF COALESCE(@segmentation, N'') = N''
        EXECUTE sqlkmeans.raise_problems @number = 50002,
            @problems = N'@segmentation: missing; allowed: the name of a segmentation';

    EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @keep = 1;
END;
GO

-- procedures/unlock_segmentation.sql
IF OBJECT_ID(N'sqlkmeans.unlock_segmentation', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.unlock_segmentation AS RETURN 0;');
GO
-- Gives back what lock_segmentation took, or a call that was cancelled; harmless where this session
-- holds nothing.
ALTER PROCEDURE sqlkmeans.unlock_segmentation
    @segmentation nvarchar(128) = NULL,
    @help         bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@segmentation', N'nvarchar(128)', N'NULL',
                N'The segmentation to give back.'),
            (2, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    IF COALESCE(@segmentation, N'') = N''
        EXECUTE sqlkmeans.raise_problems @number = 50002,
            @problems = N'@segmentation: missing; allowed: the name of a segmentation';

    EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1, @keep = 1;
END;
GO

-- procedures/refresh_movement.sql
IF OBJECT_ID(N'sqlkmeans.refresh_movement', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.refresh_movement AS RETURN 0;');
GO
-- Makes the view segment_movement anew: one SELECT for each segmentation that has a history. Where
-- that fails, the run stays published and gets a warning.
ALTER PROCEDURE sqlkmeans.refresh_movement
    @run_id bigint = NULL
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @union nvarchar(max) = N'';
    DECLARE @segmentation nvarchar(128) = N'';
    DECLARE @definition nvarchar(max);
    DECLARE @history nvarchar(1000);
    DECLARE @history_id bigint;
    DECLARE @statement nvarchar(max);

    WHILE 1 = 1
    BEGIN
        SET @definition = NULL;
        SELECT TOP (1) @segmentation = g.name, @definition = g.definition
        FROM sqlkmeans.segmentation AS g
        WHERE g.name > @segmentation AND g.active_run_id IS NOT NULL
        ORDER BY g.name;
        IF @definition IS NULL
            BREAK;

        SET @history = sqlkmeans.quoted_name(JSON_VALUE(@definition, '$.target'), N'_history');
        EXECUTE sqlkmeans.as_owner
            @statement = N'SET @arrived = OBJECT_ID(@text);', @text = @history,
            @arrived = @history_id OUTPUT;

        -- Segments have a name before they are aggregated: an aggregate may not mix columns of its own
        -- query with those of the row outside (error 8124).
        IF @history_id IS NOT NULL
            SET @union = @union + CASE WHEN @union = N'' THEN N'' ELSE N'
UNION ALL
' END + N'SELECT a.segmentation, a.run_id AS from_run_id, b.run_id AS to_run_id,
    m.from_segment_id, m.to_segment_id, m.customers
FROM sqlkmeans.run AS a
INNER JOIN sqlkmeans.run AS b ON b.segmentation = a.segmentation AND b.published_at > a.published_at
CROSS APPLY (
    SELECT c.from_segment_id, c.to_segment_id, COUNT_BIG(*) AS customers
    FROM (
        SELECT MAX(v.from_segment_id) AS from_segment_id, MAX(v.to_segment_id) AS to_segment_id
        FROM ' + @history + N' AS h
        CROSS APPLY (
            SELECT
                CASE WHEN h.valid_from <= a.published_at
                      AND (h.valid_to IS NULL OR h.valid_to > a.published_at)
                     THEN h.segment_id END AS from_segment_id,
                CASE WHEN h.valid_from <= b.published_at
                      AND (h.valid_to IS NULL OR h.valid_to > b.published_at)
                     THEN h.segment_id END AS to_segment_id
        ) AS v
        GROUP BY ' + sqlkmeans.each_name(JSON_QUERY(@definition, '$.key'), N'h.{}', N', ') + N'
    ) AS c
    WHERE c.from_segment_id IS NOT NULL OR c.to_segment_id IS NOT NULL
    GROUP BY c.from_segment_id, c.to_segment_id
) AS m
WHERE a.segmentation = N''' + REPLACE(@segmentation, N'''', N'''''')
                + N''' AND a.status = N''published'' AND b.status = N''published''';
    END;

    IF @union = N''
        SET @union = N'SELECT CAST(NULL AS nvarchar(128)) AS segmentation, '
            + N'CAST(NULL AS bigint) AS from_run_id, CAST(NULL AS bigint) AS to_run_id, '
            + N'CAST(NULL AS int) AS from_segment_id, CAST(NULL AS int) AS to_segment_id, '
            + N'CAST(NULL AS bigint) AS customers WHERE 1 = 0';

    BEGIN TRY
        -- One transaction: two segmentations may be published at the same time. Altered, so that what
        -- somebody was granted on it stays; a server without the catalog of module parameters cannot
        -- alter a view.
        BEGIN TRANSACTION;
        IF OBJECT_ID(N'sys.parameters') IS NULL
            EXECUTE sqlkmeans.as_owner
                @statement = N'DROP VIEW IF EXISTS sqlkmeans.segment_movement;';
        SET @statement = CASE WHEN OBJECT_ID(N'sqlkmeans.segment_movement', N'V') IS NULL
                              THEN N'CREATE' ELSE N'ALTER' END
            + N' VIEW sqlkmeans.segment_movement AS' + NCHAR(10) + @union + N';';
        EXECUTE sqlkmeans.as_owner @statement = N'EXECUTE (@text);', @text = @statement;
        COMMIT TRANSACTION;
    END TRY
    BEGIN CATCH
        SET @statement = N'the view segment_movement was not made anew: ' + ERROR_MESSAGE();
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        EXECUTE sqlkmeans.add_warning @run_id = @run_id, @warning = @statement;
    END CATCH;
END;
GO

-- procedures/define_segmentation.sql
IF OBJECT_ID(N'sqlkmeans.define_segmentation', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.define_segmentation AS RETURN 0;');
GO
-- Registers a segmentation, or changes the one of that name, after checking all of it.
ALTER PROCEDURE sqlkmeans.define_segmentation
    @segmentation  nvarchar(128) = NULL,
    @source        nvarchar(max) = NULL,
    @key           nvarchar(max) = NULL,
    @features      nvarchar(max) = NULL,
    @k             int           = NULL,
    @k_min         int           = NULL,
    @k_max         int           = NULL,
    @min_share     float         = 0,
    @target        nvarchar(400) = NULL,
    @scaling       nvarchar(16)  = N'standard',
    @missing       nvarchar(16)  = N'error',
    @n_init        int           = 10,
    @seed          bigint        = 0,
    @winsorize     nvarchar(100) = NULL,
    @sample_weight nvarchar(128) = NULL,
    @guard         nvarchar(max) = NULL,
    @changed_by    nvarchar(128) = NULL,
    @engine        nvarchar(32)  = N'local',
    @sample_rows   int           = 100000,
    @min_group     int           = 10,
    @language      nvarchar(128) = N'Python',
    @history_days  int           = NULL,
    @outlier       float         = NULL,
    @trim          float         = 0,
    @profile       nvarchar(max) = NULL,
    @execute       bit           = 1,
    @quiet         bit           = 0,
    @help          bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@segmentation', N'nvarchar(128)', N'NULL',
                N'Its name: letters, digits and underscores.'),
            (2, N'@source', N'nvarchar(max)', N'NULL',
                N'A table, a view, or one SELECT; a row for each customer.'),
            (3, N'@key', N'nvarchar(max)', N'NULL',
                N'The column that identifies a customer; several as a,b or as JSON ["a", "b"].'),
            (4, N'@features', N'nvarchar(max)', N'NULL',
                N'The columns to cluster by: a,b or JSON ["a", {"column": "b", "type": "category"}].'),
            (5, N'@k', N'int', N'NULL', N'The number of segments, 2 to 1,000.'),
            (6, N'@k_min', N'int', N'NULL',
                N'Instead of @k, with @k_max: the fewest segments that a run compares, 2 to 100.'),
            (7, N'@k_max', N'int', N'NULL', N'The most segments that a run compares, 2 to 100.'),
            (8, N'@min_share', N'float', N'0',
                N'Refuses a number of segments with a smaller segment than this share, 0 to below 0.5.'),
            (9, N'@target', N'nvarchar(400)', N'NULL',
                N'The segment table, table or schema.table; the first run makes it.'),
            (10, N'@scaling', N'nvarchar(16)', N'N''standard''', N'standard, robust, minmax or none.'),
            (11, N'@missing', N'nvarchar(16)', N'N''error''', N'error, skip, mean or median.'),
            (12, N'@n_init', N'int', N'10', N'Number of k-means++ starts, 1 to 1,000.'),
            (13, N'@seed', N'bigint', N'0', N'Of the random numbers, 0 to 4,294,967,295.'),
            (14, N'@winsorize', N'nvarchar(100)', N'NULL',
                N'Two quantiles, such as [0.01, 0.99], that values outside are pulled in to.'),
            (15, N'@sample_weight', N'nvarchar(128)', N'NULL',
                N'A column of the source: how much a customer counts in the fit.'),
            (16, N'@guard', N'nvarchar(max)', N'NULL',
                N'How much a run may differ from the one before: JSON {"action": "refuse", "psi": 0.5}.'),
            (17, N'@changed_by', N'nvarchar(128)', N'NULL',
                N'A column that grows when a row changes, or SYS_CHANGE_VERSION; assign reads only such rows.'),
            (18, N'@engine', N'nvarchar(32)', N'N''local''',
                N'Where sqlkmeans run trains: local, pushdown, in_database or tsql.'),
            (19, N'@sample_rows', N'int', N'100000',
                N'Starts run on so many rows at most, 0 to 10,000,000; with pushdown, 0 reads none.'),
            (20, N'@min_group', N'int', N'10',
                N'With @sample_rows 0, nothing about fewer customers leaves the database, 2 to 100,000.'),
            (21, N'@language', N'nvarchar(128)', N'N''Python''',
                N'The external language of engine in_database: Python, or one made with CREATE EXTERNAL LANGUAGE.'),
            (22, N'@history_days', N'int', N'NULL',
                N'How many days the history keeps a label that ended, 1 to 36,500; NULL keeps all.'),
            (23, N'@outlier', N'float', N'NULL',
                N'The share of each segment that is farthest at the fit, above 0 and below 0.5: outliers, as who is farther later.'),
            (24, N'@trim', N'float', N'0',
                N'The share of the customers, the farthest, that the fit leaves out, 0 to below 0.5.'),
            (25, N'@profile', N'nvarchar(max)', N'NULL',
                N'Columns that are described for each segment, never clustered on: a,b or JSON ["a", "b"].'),
            (26, N'@execute', N'bit', N'1', N'0 shows what would be done and does nothing.'),
            (27, N'@quiet', N'bit', N'0', N'1 gives no row back, for a procedure that calls this one.'),
            (28, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @problems nvarchar(max) = N'';
    DECLARE @definition nvarchar(max);
    DECLARE @key_columns nvarchar(max);
    DECLARE @now datetime2(6) = SYSUTCDATETIME();

    IF sqlkmeans.is_plain_name(@segmentation) = 0 OR LEN(@segmentation) > 100
        SET @problems = @problems + N'@segmentation: ' + COALESCE(@segmentation, N'NULL')
            + N' given; allowed: letters, digits and underscores, 100 at most' + @line;
    -- A server may not tell cases apart, and the definition is read by one that does.
    SET @scaling = LOWER(@scaling);
    SET @missing = LOWER(@missing);
    SET @engine = LOWER(@engine);

    IF @k IS NOT NULL AND (@k_min IS NOT NULL OR @k_max IS NOT NULL)
        SET @problems = @problems + N'@k: ' + CAST(@k AS nvarchar(20))
            + N' given beside @k_min or @k_max; allowed: either @k, or @k_min and @k_max' + @line;
    ELSE IF @k_min IS NULL AND @k_max IS NULL
    BEGIN
        IF @k IS NULL OR @k NOT BETWEEN 2 AND 1000
            SET @problems = @problems + N'@k: ' + COALESCE(CAST(@k AS nvarchar(20)), N'NULL')
                + N' given; allowed: 2 to 1,000, or @k_min and @k_max instead' + @line;
    END;
    ELSE IF @k_min IS NULL OR @k_max IS NULL OR @k_min < 2 OR @k_max > 100 OR @k_min > @k_max
        SET @problems = @problems + N'@k_min: ' + COALESCE(CAST(@k_min AS nvarchar(20)), N'NULL')
            + N' and @k_max: ' + COALESCE(CAST(@k_max AS nvarchar(20)), N'NULL')
            + N' given; allowed: both, 2 to 100, @k_min not above @k_max' + @line;
    IF @min_share IS NULL OR @min_share < 0 OR @min_share >= 0.5
        SET @problems = @problems + N'@min_share: '
            + COALESCE(CAST(@min_share AS nvarchar(40)), N'NULL')
            + N' given; allowed: 0 to below 0.5' + @line;
    IF @winsorize IS NOT NULL AND sqlkmeans.quantiles(@winsorize) IS NULL
        SET @problems = @problems + N'@winsorize: ' + @winsorize
            + N' given; allowed: two quantiles, such as [0.01, 0.99]' + @line;
    IF @scaling IS NULL OR @scaling NOT IN (N'standard', N'robust', N'minmax', N'none')
        SET @problems = @problems + N'@scaling: ' + COALESCE(@scaling, N'NULL')
            + N' given; allowed: standard, robust, minmax, none' + @line;
    IF @missing IS NULL OR @missing NOT IN (N'error', N'skip', N'mean', N'median')
        SET @problems = @problems + N'@missing: ' + COALESCE(@missing, N'NULL')
            + N' given; allowed: error, skip, mean, median' + @line;
    IF @n_init IS NULL OR @n_init NOT BETWEEN 1 AND 1000
        SET @problems = @problems + N'@n_init: ' + COALESCE(CAST(@n_init AS nvarchar(20)), N'NULL')
            + N' given; allowed: 1 to 1,000' + @line;
    IF @seed IS NULL OR @seed NOT BETWEEN 0 AND 4294967295
        SET @problems = @problems + N'@seed: ' + COALESCE(CAST(@seed AS nvarchar(20)), N'NULL')
            + N' given; allowed: 0 to 4,294,967,295' + @line;
    IF @engine IS NULL OR @engine NOT IN (N'local', N'pushdown', N'in_database', N'tsql')
        SET @problems = @problems + N'@engine: ' + COALESCE(@engine, N'NULL')
            + N' given; allowed: local, pushdown, in_database, tsql' + @line;
    IF @sample_rows IS NULL OR @sample_rows NOT BETWEEN 0 AND 10000000
        SET @problems = @problems + N'@sample_rows: '
            + COALESCE(CAST(@sample_rows AS nvarchar(20)), N'NULL')
            + N' given; allowed: 0 to 10,000,000' + @line;
    ELSE IF @sample_rows = 0 AND @engine = N'local'
        SET @problems = @problems + N'@sample_rows: 0 lets no row leave the database, and engine '
            + N'local reads all of them; use pushdown' + @line;
    ELSE IF @sample_rows = 0 AND @engine = N'pushdown' AND @scaling = N'minmax'
        SET @problems = @problems + N'@scaling: minmax needs the least and the greatest value, which '
            + N'stay in the database with @sample_rows 0; use standard or robust' + @line;
    IF @min_group IS NULL OR @min_group NOT BETWEEN 2 AND 100000
        SET @problems = @problems + N'@min_group: '
            + COALESCE(CAST(@min_group AS nvarchar(20)), N'NULL')
            + N' given; allowed: 2 to 100,000' + @line;
    -- JSON has a control character as \u00…
    IF COALESCE(@language, N'') = N'' OR CHARINDEX(N'\u00', sqlkmeans.json_text(@language)) > 0
        SET @problems = @problems + N'@language: ' + COALESCE(@language, N'NULL')
            + N' given; allowed: the name of an external language, 1 to 128 characters' + @line;
    IF @history_days NOT BETWEEN 1 AND 36500
        SET @problems = @problems + N'@history_days: ' + CAST(@history_days AS nvarchar(20))
            + N' given; allowed: 1 to 36,500, or NULL' + @line;

    IF @outlier <= 0 OR @outlier >= 0.5
        SET @problems = @problems + N'@outlier: ' + CAST(@outlier AS nvarchar(40))
            + N' given; allowed: above 0 and below 0.5, or NULL' + @line;
    IF @trim IS NULL OR @trim < 0 OR @trim >= 0.5
        SET @problems = @problems + N'@trim: ' + COALESCE(CAST(@trim AS nvarchar(40)), N'NULL')
            + N' given; allowed: 0 to below 0.5' + @line;
    ELSE IF @trim > 0 AND @engine IN (N'pushdown', N'tsql')
        SET @problems = @problems + N'@trim: ' + CAST(@trim AS nvarchar(40))
            + N' needs to look at rows, and engine ' + @engine
            + N' sees sums; use local or in_database' + @line;

    SET @key = sqlkmeans.name_list(@key);
    IF @key IS NULL
        SET @problems = @problems + N'@key: not a list; allowed: a,b or JSON ["a", "b"]' + @line;
    IF LTRIM(@profile) <> N'' AND sqlkmeans.name_list(@profile) IS NULL
        SET @problems = @problems + N'@profile: not a list; allowed: a,b or JSON ["a", "b"]' + @line;
    SET @profile = sqlkmeans.name_list(@profile);
    EXECUTE sqlkmeans.complete_features
        @key = @key, @features = @features OUTPUT, @problems = @problems OUTPUT;
    EXECUTE sqlkmeans.complete_guard @guard = @guard OUTPUT, @problems = @problems OUTPUT;

    SET @definition = N'{"name":' + sqlkmeans.json_text(COALESCE(@segmentation, N''))
        + N',"source":' + sqlkmeans.json_text(COALESCE(@source, N''))
        + N',"key":' + COALESCE(@key, N'[]')
        + N',"features":' + @features
        + N',"k":' + COALESCE(CAST(@k AS nvarchar(20)), N'"auto"')
        + N',"k_min":' + CAST(COALESCE(@k_min, 2) AS nvarchar(20))
        + N',"k_max":' + CAST(COALESCE(@k_max, 10) AS nvarchar(20))
        + N',"min_share":' + LTRIM(RTRIM(CONVERT(nvarchar(40), COALESCE(@min_share, 0), 3)))
        + N',"target":' + sqlkmeans.json_text(COALESCE(@target, N''))
        + N',"scaling":' + sqlkmeans.json_text(COALESCE(@scaling, N''))
        + N',"missing":' + sqlkmeans.json_text(COALESCE(@missing, N''))
        + N',"n_init":' + CAST(COALESCE(@n_init, 0) AS nvarchar(20))
        + N',"seed":' + CAST(COALESCE(@seed, 0) AS nvarchar(20))
        + N',"winsorize":' + COALESCE(sqlkmeans.quantiles(@winsorize), N'null')
        + N',"sample_weight":' + sqlkmeans.json_text(@sample_weight)
        + N',"guard":' + @guard
        + N',"changed_by":' + sqlkmeans.json_text(@changed_by)
        + N',"engine":' + sqlkmeans.json_text(COALESCE(@engine, N''))
        + N',"sample_rows":' + CAST(COALESCE(@sample_rows, 0) AS nvarchar(20))
        + N',"min_group":' + CAST(COALESCE(@min_group, 0) AS nvarchar(20))
        + N',"language":' + sqlkmeans.json_text(COALESCE(@language, N''))
        + N',"outlier":' + COALESCE(LTRIM(RTRIM(CONVERT(nvarchar(40), @outlier, 3))), N'null')
        + N',"trim":' + LTRIM(RTRIM(CONVERT(nvarchar(40), COALESCE(@trim, 0), 3)))
        + N',"history_days":' + COALESCE(CAST(@history_days AS nvarchar(20)), N'null')
        + N',"profile":' + COALESCE(@profile, N'[]')
        -- The client's own: a definition file has them.
        + N',"memory_limit":null,"spark":{"master":null,"keep":"cache","connections":8,"format":"parquet"}}';

    EXECUTE sqlkmeans.check_definition
        @segmentation = @segmentation, @definition = @definition,
        @problems = @problems OUTPUT, @key_columns = @key_columns OUTPUT;
    EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;

    IF @execute = 1
    BEGIN
        UPDATE sqlkmeans.segmentation
        SET definition = @definition, target = @target, updated_at = @now
        WHERE name = @segmentation;

        IF NOT EXISTS (SELECT 1 FROM sqlkmeans.segmentation AS g WHERE g.name = @segmentation)
            INSERT INTO sqlkmeans.segmentation
                (name, definition, target, last_segment_id, created_at, updated_at)
            VALUES (@segmentation, @definition, @target, 0, @now, @now);
    END;

    IF @quiet = 0
        SELECT @segmentation AS segmentation,
            CASE WHEN @execute = 1 THEN N'registered' ELSE N'would be registered' END AS outcome,
            N'a run makes ' + sqlkmeans.quoted_name(@target, N'') + N' (' + @key_columns
                + N'segment_id int NOT NULL, distance float NOT NULL, is_outlier bit NOT NULL, '
                + N'run_id bigint NOT NULL, assigned_at datetime2(6) NOT NULL), '
                + sqlkmeans.quoted_name(@target, N'_history') + N' and '
                + sqlkmeans.quoted_name(@target, N'_named') AS next_step,
            @definition AS definition;
END;
GO

-- procedures/start_run.sql
IF OBJECT_ID(N'sqlkmeans.start_run', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.start_run AS RETURN 0;');
GO
-- Records a run as running, reclaims what a killed one left, and makes its staging table if it needs one.
ALTER PROCEDURE sqlkmeans.start_run
    @segmentation     nvarchar(128) = NULL,
    @definition       nvarchar(max) = NULL,
    @kind             nvarchar(16)  = N'fit',
    @engine           nvarchar(32)  = NULL,
    @client_version   nvarchar(64)  = NULL,
    @library_versions nvarchar(max) = NULL,
    @client           nvarchar(400) = NULL,
    @key_types        nvarchar(max) = NULL,
    @run_id           bigint        = NULL OUTPUT,
    @help             bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@segmentation', N'nvarchar(128)', N'NULL', N'The name of the segmentation.'),
            (2, N'@definition', N'nvarchar(max)', N'NULL',
                N'Its definition as JSON; NULL takes the one that is recorded.'),
            (3, N'@kind', N'nvarchar(16)', N'N''fit''',
                N'fit trains a model, assign labels with the active one, choose_k scores numbers of segments.'),
            (4, N'@engine', N'nvarchar(32)', N'NULL',
                N'Where the arithmetic happens; NULL takes the definition''s.'),
            (5, N'@client_version', N'nvarchar(64)', N'NULL',
                N'The version of sqlkmeans that runs; NULL takes the one installed here.'),
            (6, N'@library_versions', N'nvarchar(max)', N'NULL', N'For the run''s row.'),
            (7, N'@client', N'nvarchar(400)', N'NULL',
                N'For the run''s row, behind the login; NULL records the program.'),
            (8, N'@key_types', N'nvarchar(max)', N'NULL',
                N'A JSON list of the key''s types, where the client reads the source somewhere else.'),
            (9, N'@run_id', N'bigint OUTPUT', N'NULL', N'The run; its staging table is sqlkmeans.staging_<run_id>.'),
            (10, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @problems nvarchar(max) = N'';
    DECLARE @key_columns nvarchar(max);
    DECLARE @source nvarchar(max);
    DECLARE @key nvarchar(max);
    DECLARE @now datetime2(6) = SYSUTCDATETIME();

    DECLARE @recorded nvarchar(max);
    SELECT @recorded = g.definition FROM sqlkmeans.segmentation AS g WHERE g.name = @segmentation;
    SET @definition = COALESCE(@definition, @recorded);

    IF sqlkmeans.is_plain_name(@segmentation) = 0 OR LEN(@segmentation) > 100
        SET @problems = @problems + N'@segmentation: ' + COALESCE(@segmentation, N'NULL')
            + N' given; allowed: letters, digits and underscores, 100 at most' + @line;
    IF @kind NOT IN (N'fit', N'assign', N'choose_k') OR @kind IS NULL
        SET @problems = @problems + N'@kind: ' + COALESCE(@kind, N'NULL')
            + N' given; allowed: fit, assign, choose_k' + @line;
    IF @key_types IS NOT NULL AND ISJSON(@key_types) = 0
    BEGIN
        SET @problems = @problems + N'@key_types: not JSON; allowed: a list, such as ["bigint"]' + @line;
        SET @key_types = N'[]';
    END;
    IF @definition IS NULL OR ISJSON(@definition) = 0
        SET @problems = @problems + N'@definition: '
            + CASE WHEN @definition IS NULL THEN N'missing, and none is recorded' ELSE N'not JSON' END
            + N'; allowed: a definition as JSON' + @line;
    ELSE
    BEGIN
        IF JSON_VALUE(@definition, '$.name') <> @segmentation
            SET @problems = @problems + N'@definition: its name is '
                + JSON_VALUE(@definition, '$.name') + N', not ' + @segmentation + @line;
        SET @key = JSON_QUERY(@definition, '$.key');
        EXECUTE sqlkmeans.check_definition
            @segmentation = @segmentation, @definition = @definition,
            @problems = @problems OUTPUT, @key_columns = @key_columns OUTPUT,
            @key_types = @key_types;
        IF @key_types IS NOT NULL
           AND COALESCE(JSON_VALUE(@definition, '$.engine'), N'local') <> N'spark'
            SET @problems = @problems + N'@key_types: given, and the engine is '
                + COALESCE(JSON_VALUE(@definition, '$.engine'), N'local')
                + N'; allowed: with spark, which may have its rows somewhere else' + @line;

        -- What is read and what is written is an admin's to say: a run of a stronger caller, and the
        -- owner who writes, follow what is recorded here.
        IF USER_NAME() <> N'dbo' AND COALESCE(IS_ROLEMEMBER(N'sqlkmeans_admin'), 0) = 0
           AND COALESCE(IS_ROLEMEMBER(N'db_owner'), 0) = 0
        BEGIN
            IF @recorded IS NULL
                SET @problems = @problems + N'@segmentation: ' + COALESCE(@segmentation, N'NULL')
                    + N' is not registered, which takes the role sqlkmeans_admin' + @line;
            ELSE IF EXISTS (
                SELECT 1
                FROM OPENJSON(@definition) WITH (
                    source nvarchar(max) '$.source', [key] nvarchar(max) '$.key' AS JSON,
                    target nvarchar(max) '$.target', language nvarchar(max) '$.language',
                    engine nvarchar(32) '$.engine') AS n
                CROSS JOIN OPENJSON(@recorded) WITH (
                    source nvarchar(max) '$.source', [key] nvarchar(max) '$.key' AS JSON,
                    target nvarchar(max) '$.target', language nvarchar(max) '$.language',
                    engine nvarchar(32) '$.engine') AS r
                WHERE COALESCE(n.language, N'Python')
                      <> COALESCE(r.language, N'Python') COLLATE Latin1_General_100_BIN2
                   -- With Spark, the source may be somewhere else.
                   OR CASE n.engine WHEN N'spark' THEN 1 ELSE 0 END
                      <> CASE r.engine WHEN N'spark' THEN 1 ELSE 0 END
                   -- Of what is no source here, and may be Spark's, each letter counts.
                   OR COALESCE(sqlkmeans.relation(n.source), N'= ' + n.source, N'')
                      <> COALESCE(sqlkmeans.relation(r.source), N'= ' + r.source, N'')
                         COLLATE Latin1_General_100_BIN2
                   OR COALESCE(sqlkmeans.each_name(n.[key], N'{}', N', '), N'')
                      <> COALESCE(sqlkmeans.each_name(r.[key], N'{}', N', '), N'')
                         COLLATE Latin1_General_100_BIN2
                   OR COALESCE(sqlkmeans.quoted_name(n.target, N''), N'')
                      <> COALESCE(sqlkmeans.quoted_name(r.target, N''), N'')
                         COLLATE Latin1_General_100_BIN2)
                SET @problems = @problems + N'@definition: its source, key, target, language or engine '
                    + N'(spark or another) is not the one that is registered; to change them takes the '
                    + N'role sqlkmeans_admin' + @line;
        END;
    END;

    EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;
    EXECUTE sqlkmeans.take_lock @segmentation = @segmentation;

    BEGIN TRY
        BEGIN TRANSACTION;

        EXECUTE sqlkmeans.reclaim_runs @segmentation = @segmentation;

        -- A known segmentation takes its new definition when the run is published, not before.
        IF NOT EXISTS (SELECT 1 FROM sqlkmeans.segmentation AS g WHERE g.name = @segmentation)
            INSERT INTO sqlkmeans.segmentation
                (name, definition, target, last_segment_id, created_at, updated_at)
            VALUES
                (@segmentation, @definition, JSON_VALUE(@definition, '$.target'), 0, @now, @now);

        INSERT INTO sqlkmeans.run
            (segmentation, kind, status, engine, definition, started_at, sqlkmeans_version,
             library_versions, client)
        VALUES
            (@segmentation, @kind, N'running',
             COALESCE(@engine, JSON_VALUE(@definition, '$.engine'), N'local'), @definition, @now,
             COALESCE(@client_version, sqlkmeans.version()), @library_versions,
             LEFT(ORIGINAL_LOGIN() + COALESCE(N', ' + COALESCE(@client, APP_NAME()), N''), 400));
        SET @run_id = SCOPE_IDENTITY();

        -- A choice of k publishes no labels.
        IF @kind <> N'choose_k'
            EXECUTE sqlkmeans.create_staging
                @run_id = @run_id, @key = @key, @key_columns = @key_columns;

        COMMIT TRANSACTION;

        EXECUTE sqlkmeans.drop_parts @segmentation = @segmentation;
        -- Outside, because an error that the server turns into a row could doom the transaction.
        SELECT @source = j.source
        FROM OPENJSON(@definition) WITH (source nvarchar(max) '$.source') AS j;
        BEGIN TRY
            IF @key_types IS NULL
                EXECUTE sqlkmeans.warn_of_hidden_rows @run_id = @run_id, @source = @source;
        END TRY
        BEGIN CATCH
            SET @problems = N'row-level security was not looked at: ' + ERROR_MESSAGE();
            EXECUTE sqlkmeans.add_warning @run_id = @run_id, @warning = @problems;
        END CATCH;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1;
    END TRY
    BEGIN CATCH
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1;
        THROW;
    END CATCH;
END;
GO

-- procedures/publish_staged.sql
IF OBJECT_ID(N'sqlkmeans.publish_staged', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.publish_staged AS RETURN 0;');
GO
-- What publish_run does, without a result set, for procedures that publish as their last step.
ALTER PROCEDURE sqlkmeans.publish_staged
    @run_id      bigint,
    @publication nvarchar(max),
    @arrived     bigint = NULL OUTPUT,
    @moved       bigint = NULL OUTPUT,
    @departed    bigint = NULL OUTPUT,
    @written     bigint = NULL OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @problems nvarchar(max) = N'';
    DECLARE @segmentation nvarchar(128);
    DECLARE @definition nvarchar(max);
    DECLARE @status nvarchar(16);
    DECLARE @kind nvarchar(16);
    DECLARE @run nvarchar(max);
    DECLARE @model_run_id bigint;
    DECLARE @last_segment_id int;
    DECLARE @tolerance float;
    DECLARE @target nvarchar(1000);
    DECLARE @key nvarchar(max);
    DECLARE @segment_ids nvarchar(max);
    DECLARE @expected bigint;
    DECLARE @staged bigint;
    DECLARE @changes_only bit;
    DECLARE @statement nvarchar(max);
    DECLARE @now datetime2(6);
    DECLARE @begun datetime2(6) = SYSUTCDATETIME();

    SELECT @segmentation = r.segmentation, @definition = r.definition, @status = r.status,
        @kind = r.kind
    FROM sqlkmeans.run AS r
    WHERE r.run_id = @run_id;

    IF @segmentation IS NULL
        SET @problems = @problems + N'@run_id: ' + COALESCE(CAST(@run_id AS nvarchar(20)), N'NULL')
            + N' given; allowed: a run in sqlkmeans.run' + @line;
    ELSE IF @status <> N'running'
        SET @problems = @problems + N'@run_id: run ' + CAST(@run_id AS nvarchar(20)) + N' is '
            + @status + N'; allowed: a running one' + @line;

    IF @publication IS NULL OR ISJSON(@publication) = 0
        SET @problems = @problems + N'@publication: '
            + CASE WHEN @publication IS NULL THEN N'missing' ELSE N'not JSON' END
            + N'; allowed: a JSON object' + @line;
    ELSE
    BEGIN
        SELECT @run = j.run, @segment_ids = j.segment_ids, @model_run_id = j.model_run_id,
            @last_segment_id = j.last_segment_id, @tolerance = j.distance_tolerance,
            @expected = j.staged_rows, @changes_only = COALESCE(j.changes_only, 0)
        FROM OPENJSON(@publication) WITH (
            run                nvarchar(max) '$.run' AS JSON,
            segment_ids        nvarchar(max) '$.segment_ids' AS JSON,
            model_run_id       bigint        '$.model_run_id',
            last_segment_id    int           '$.last_segment_id',
            distance_tolerance float         '$.distance_tolerance',
            staged_rows        bigint        '$.staged_rows',
            changes_only       bit           '$.changes_only'
        ) AS j;
        IF @expected IS NULL AND @changes_only = 0
            SET @expected = TRY_CAST(JSON_VALUE(@run, '$.rows') AS bigint);

        IF @segment_ids IS NULL
            SET @problems = @problems
                + N'@publication: segment_ids is missing; allowed: a list of segment ids' + @line;
        IF @model_run_id IS NULL
            SET @problems = @problems + N'@publication: model_run_id is missing' + @line;
        ELSE IF NOT EXISTS (SELECT 1 FROM sqlkmeans.run AS r
                            WHERE r.run_id = @model_run_id AND r.segmentation = @segmentation)
            SET @problems = @problems + N'@publication: model_run_id ' + CAST(@model_run_id AS nvarchar(20))
                + N' is no run of ' + COALESCE(@segmentation, N'it') + @line;
        IF @last_segment_id IS NULL
            SET @problems = @problems + N'@publication: last_segment_id is missing' + @line;
        IF @expected IS NULL
            SET @problems = @problems + N'@publication: '
                + CASE WHEN @changes_only = 1 THEN N'staged_rows' ELSE N'run.rows' END
                + N' is missing' + @line;
        IF @changes_only = 1 AND JSON_QUERY(@publication, '$.tables.segment') IS NULL
            SET @problems = @problems + N'@publication: tables.segment is missing; the sizes of '
                + N'the segments tell whether the changes were all' + @line;
    END;

    EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;

    SET @target = JSON_VALUE(@definition, '$.target');
    SET @key = JSON_QUERY(@definition, '$.key');
    SET @statement = N'SELECT @arrived = COUNT_BIG(*) FROM sqlkmeans.'
        + QUOTENAME(N'staging_' + CAST(@run_id AS nvarchar(20))) + N';';
    EXECUTE sqlkmeans.take_lock @segmentation = @segmentation;

    BEGIN TRY
        BEGIN TRANSACTION;

        EXECUTE sqlkmeans.as_owner @statement = @statement, @arrived = @staged OUTPUT;
        IF @staged <> @expected
        BEGIN
            SET @problems = CAST(@expected AS nvarchar(20)) + N' labels were sent and '
                + CAST(@staged AS nvarchar(20)) + N' arrived; nothing was published';
            EXECUTE sqlkmeans.raise_problems @number = 50004, @problems = @problems;
        END;

        SET @now = sqlkmeans.publication_time(@segmentation);
        EXECUTE sqlkmeans.apply_labels
            @segmentation = @segmentation, @target = @target, @key = @key, @run_id = @run_id,
            @segment_ids = @segment_ids, @now = @now, @tolerance = @tolerance,
            @changes_only = @changes_only, @publication = @publication, @arrived = @arrived OUTPUT,
            @moved = @moved OUTPUT, @departed = @departed OUTPUT, @written = @written OUTPUT;
        IF @changes_only = 1
            EXECUTE sqlkmeans.check_sizes @target = @target, @publication = @publication;
        EXECUTE sqlkmeans.store_result @run_id = @run_id, @publication = @publication;

        UPDATE sqlkmeans.segmentation
        SET definition = @definition, target = @target, last_segment_id = @last_segment_id
        WHERE name = @segmentation;

        EXECUTE sqlkmeans.finish_run
            @segmentation = @segmentation, @run_id = @run_id, @model_run_id = @model_run_id,
            @now = @now, @arrived = @arrived, @moved = @moved, @departed = @departed,
            @written = @written;

        UPDATE sqlkmeans.run
        SET seconds_publish = COALESCE(
                seconds_publish, DATEDIFF(millisecond, @begun, SYSUTCDATETIME()) / 1e3),
            seconds_total = COALESCE(
                seconds_total, DATEDIFF_BIG(millisecond, started_at, SYSUTCDATETIME()) / 1e3)
        WHERE run_id = @run_id;

        COMMIT TRANSACTION;
    END TRY
    BEGIN CATCH
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1;
        THROW;
    END CATCH;

    BEGIN TRY
        IF @kind = N'fit'
        BEGIN
            EXECUTE sqlkmeans.refresh_function @segmentation = @segmentation, @run_id = @run_id;
            EXECUTE sqlkmeans.refresh_movement @run_id = @run_id;
        END;
        EXECUTE sqlkmeans.expire_history @run_id = @run_id;
        EXECUTE sqlkmeans.drop_parts @segmentation = @segmentation;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1;
    END TRY
    BEGIN CATCH
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1;
        THROW;
    END CATCH;
END;
GO

-- procedures/stage_changes.sql
IF OBJECT_ID(N'sqlkmeans.stage_changes', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.stage_changes AS RETURN 0;');
GO
-- Stages changes of the segment table alone, under the segment ids. @labels is a query of key,
-- segment_id and distance, and of what stands in that table: segment, distance and whether that is an
-- outlier's, [sqlkmeans previous], [sqlkmeans before] and [sqlkmeans flagged]; by default of the caller's
-- #sqlkmeans_scored. @kept of its rows stand there, and who is there beside these departed. Tells the
-- publication so.
ALTER PROCEDURE sqlkmeans.stage_changes
    @run_id      bigint,
    @definition  nvarchar(max),
    @publication nvarchar(max) OUTPUT,
    @labels      nvarchar(max) = NULL,
    @kept        bigint        = NULL
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @key nvarchar(max) = JSON_QUERY(@definition, '$.key');
    DECLARE @target nvarchar(1000) =
        sqlkmeans.quoted_name(JSON_VALUE(@definition, '$.target'), N'');
    DECLARE @keys nvarchar(max) = sqlkmeans.each_name(@key, N'{}', N', ');
    DECLARE @staging nvarchar(200) =
        N'sqlkmeans.' + QUOTENAME(N'staging_' + CAST(@run_id AS nvarchar(20)));
    DECLARE @tolerance float = CAST(JSON_VALUE(@publication, '$.distance_tolerance') AS float);
    DECLARE @last_segment_id int = CAST(JSON_VALUE(@publication, '$.last_segment_id') AS int);
    DECLARE @target_id bigint;
    DECLARE @published bigint = 0;
    DECLARE @staged bigint;
    DECLARE @departed bigint = 0;
    DECLARE @statement nvarchar(max);

    IF @labels IS NULL
    BEGIN
        SET @labels = sqlkmeans.labels_text(@key);
        SELECT @kept = COALESCE(SUM(o.customers), 0)
        FROM #sqlkmeans_overlap AS o
        WHERE o.previous IS NOT NULL;
    END;
    SET @statement = N'INSERT INTO ' + @staging + N' WITH (TABLOCK) (' + @keys
        + N', cluster, distance)
SELECT ' + sqlkmeans.each_name(@key, N's.{}', N', ') + N', s.segment_id, s.distance
FROM (' + @labels + N') AS s
LEFT JOIN #sqlkmeans_limit AS o ON o.segment_id = s.segment_id
CROSS APPLY (SELECT CASE WHEN s.distance > o.outlier_distance THEN 1 ELSE 0 END AS is_outlier) AS f
WHERE s.[sqlkmeans previous] IS NULL OR s.[sqlkmeans previous] <> s.segment_id
   OR ABS(s.distance - s.[sqlkmeans before]) > @tolerance OR f.is_outlier <> s.[sqlkmeans flagged]
   OR f.is_outlier <> CASE WHEN s.[sqlkmeans before] > o.outlier_distance THEN 1 ELSE 0 END;
SET @staged = ROWCOUNT_BIG();';

    CREATE TABLE #sqlkmeans_limit
    (
        segment_id       int   NOT NULL PRIMARY KEY,
        outlier_distance float NOT NULL
    );
    INSERT INTO #sqlkmeans_limit (segment_id, outlier_distance)
    SELECT o.segment_id, o.outlier_distance FROM sqlkmeans.outlier_distances(@publication) AS o;

    EXECUTE sys.sp_executesql @statement, N'@tolerance float, @staged bigint OUTPUT',
        @tolerance = @tolerance, @staged = @staged OUTPUT;

    EXECUTE sqlkmeans.as_owner
        @statement = N'SET @arrived = OBJECT_ID(@text);', @text = @target,
        @arrived = @target_id OUTPUT;
    IF @target_id IS NOT NULL
    BEGIN
        SET @statement = N'SELECT @published = COUNT_BIG(*) FROM ' + @target + N' AS t;';
        EXECUTE sys.sp_executesql @statement, N'@published bigint OUTPUT', @published = @published OUTPUT;
    END;
    IF @published <> @kept
    BEGIN
        SET @statement = N'INSERT INTO ' + @staging + N' (' + @keys + N', cluster, distance, departed)
SELECT ' + sqlkmeans.each_name(@key, N't.{}', N', ') + N', 0, 0e0, 1
FROM ' + @target + N' AS t
WHERE NOT EXISTS (SELECT 1 FROM (' + @labels + N') AS s WHERE '
            + sqlkmeans.each_name(@key, N's.{} = t.{}', N' AND ') + N');
SET @departed = ROWCOUNT_BIG();';
        EXECUTE sys.sp_executesql @statement, N'@departed bigint OUTPUT', @departed = @departed OUTPUT;
    END;

    SET @publication = JSON_MODIFY(JSON_MODIFY(JSON_MODIFY(@publication,
        '$.segment_ids', JSON_QUERY(sqlkmeans.own_ids(@last_segment_id))),
        '$.changes_only', CAST(1 AS bit)), '$.staged_rows', @staged + @departed);
END;
GO

-- procedures/publish_run.sql
IF OBJECT_ID(N'sqlkmeans.publish_run', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.publish_run AS RETURN 0;');
GO
-- Makes a staged run visible in one transaction of changes only.
ALTER PROCEDURE sqlkmeans.publish_run
    @run_id      bigint        = NULL,
    @publication nvarchar(max) = NULL,
    @arrived     bigint        = NULL OUTPUT,
    @moved       bigint        = NULL OUTPUT,
    @departed    bigint        = NULL OUTPUT,
    @written     bigint        = NULL OUTPUT,
    @help        bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@run_id', N'bigint', N'NULL',
                N'A run that start_run made and whose staging table holds its labels, all or only the changes.'),
            (2, N'@publication', N'nvarchar(max)', N'NULL',
                N'JSON: segment_ids, model_run_id, run, tables, last_segment_id, distance_tolerance, outlier_distances, staged_rows, changes_only.'),
            (3, N'@arrived', N'bigint OUTPUT', N'NULL', N'Customers that came.'),
            (4, N'@moved', N'bigint OUTPUT', N'NULL', N'Customers that changed segment.'),
            (5, N'@departed', N'bigint OUTPUT', N'NULL', N'Customers that left.'),
            (6, N'@written', N'bigint OUTPUT', N'NULL',
                N'Rows inserted, updated or deleted in the segment table.'),
            (7, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    EXECUTE sqlkmeans.publish_staged
        @run_id = @run_id, @publication = @publication, @arrived = @arrived OUTPUT,
        @moved = @moved OUTPUT, @departed = @departed OUTPUT, @written = @written OUTPUT;

    SELECT @arrived AS arrived, @moved AS moved, @departed AS departed, @written AS written;
END;
GO

-- procedures/fail_run.sql
IF OBJECT_ID(N'sqlkmeans.fail_run', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.fail_run AS RETURN 0;');
GO
-- Records a running run as failed and drops its staging table. A run that ended stays as it is. The
-- session that ran it may be gone for its client and still be publishing: so this waits for the lock,
-- and only then asks how the run stands.
ALTER PROCEDURE sqlkmeans.fail_run
    @run_id       bigint        = NULL,
    @error        nvarchar(max) = NULL,
    @wait_seconds int           = 60,
    @help         bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@run_id', N'bigint', N'NULL', N'The run that failed.'),
            (2, N'@error', N'nvarchar(max)', N'NULL', N'Why, for the run''s row.'),
            (3, N'@wait_seconds', N'int', N'60',
                N'How long to wait for another session that holds the segmentation, 0 to 3,600; then error 50005.'),
            (4, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @problems nvarchar(max) = N'';
    DECLARE @segmentation nvarchar(128);
    DECLARE @status nvarchar(16);
    DECLARE @kind nvarchar(16);
    DECLARE @wait int;

    -- A publication holds the row until it commits, and a run keeps its segmentation for good.
    SELECT @segmentation = r.segmentation
    FROM sqlkmeans.run AS r WITH (READUNCOMMITTED)
    WHERE r.run_id = @run_id;

    IF @segmentation IS NULL
        SET @problems = @problems + N'@run_id: ' + COALESCE(CAST(@run_id AS nvarchar(20)), N'NULL')
            + N' given; allowed: a run in sqlkmeans.run' + @line;
    IF @wait_seconds IS NULL OR @wait_seconds NOT BETWEEN 0 AND 3600
        SET @problems = @problems + N'@wait_seconds: '
            + COALESCE(CAST(@wait_seconds AS nvarchar(20)), N'NULL')
            + N' given; allowed: 0 to 3,600' + @line;
    EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;

    SET @wait = @wait_seconds * 1000 + 1;
    EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @wait = @wait;

    BEGIN TRY
        SELECT @status = r.status, @kind = r.kind FROM sqlkmeans.run AS r WHERE r.run_id = @run_id;

        IF @status = N'running'
        BEGIN
            EXECUTE sqlkmeans.drop_staging @run_id = @run_id;
            EXECUTE sqlkmeans.forget_model @run_id = @run_id;

            UPDATE sqlkmeans.run
            SET status = N'failed', error = COALESCE(@error, N'failed'),
                finished_at = SYSUTCDATETIME()
            WHERE run_id = @run_id;
            EXECUTE sqlkmeans.drop_parts @segmentation = @segmentation;
        END;
        ELSE IF @status = N'published' AND @kind = N'fit'
        BEGIN
            -- Its session may have ended between the commit and these two.
            EXECUTE sqlkmeans.refresh_function @segmentation = @segmentation, @run_id = @run_id;
            EXECUTE sqlkmeans.refresh_movement @run_id = @run_id;
        END;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1;
    END TRY
    BEGIN CATCH
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1;
        THROW;
    END CATCH;
END;
GO

-- procedures/rollback_segmentation.sql
IF OBJECT_ID(N'sqlkmeans.rollback_segmentation', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.rollback_segmentation AS RETURN 0;');
GO
-- Brings labels and model back as they were after an earlier run, as a run of its own.
ALTER PROCEDURE sqlkmeans.rollback_segmentation
    @segmentation     nvarchar(128) = NULL,
    @run_id           bigint        = NULL,
    @client_version   nvarchar(64)  = NULL,
    @library_versions nvarchar(max) = NULL,
    @client           nvarchar(400) = NULL,
    @new_run_id       bigint        = NULL OUTPUT,
    @quiet            bit           = 0,
    @help             bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@segmentation', N'nvarchar(128)', N'NULL', N'The name of the segmentation.'),
            (2, N'@run_id', N'bigint', N'NULL',
                N'The published run whose labels and model come back; NULL takes the one before the current one.'),
            (3, N'@client_version', N'nvarchar(64)', N'NULL',
                N'The version of sqlkmeans that runs; NULL takes the one installed here.'),
            (4, N'@library_versions', N'nvarchar(max)', N'NULL', N'For the run''s row.'),
            (5, N'@client', N'nvarchar(400)', N'NULL',
                N'For the run''s row, behind the login; NULL records the program.'),
            (6, N'@new_run_id', N'bigint OUTPUT', N'NULL', N'The run that records the rollback.'),
            (7, N'@quiet', N'bit', N'0', N'1 gives no row back, for a procedure that calls this one.'),
            (8, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @problems nvarchar(max) = N'';
    DECLARE @definition nvarchar(max);
    DECLARE @restored nvarchar(max);
    DECLARE @target nvarchar(1000);
    DECLARE @key nvarchar(max);
    DECLARE @engine nvarchar(32);
    DECLARE @current bigint;
    DECLARE @model_run_id bigint;
    DECLARE @then datetime2(6);
    DECLARE @now datetime2(6);
    DECLARE @k int;
    DECLARE @rows bigint;
    DECLARE @expected bigint;
    DECLARE @skipped bigint;
    DECLARE @segment_ids nvarchar(max);
    DECLARE @key_columns nvarchar(max);
    DECLARE @keys nvarchar(max);
    DECLARE @history nvarchar(1000);
    DECLARE @table nvarchar(1000);
    DECLARE @table_id bigint;
    DECLARE @staging nvarchar(200);
    DECLARE @same nvarchar(max);
    DECLARE @stood nvarchar(200) =
        N'h.valid_from <= @then AND (h.valid_to IS NULL OR h.valid_to > @then)';
    DECLARE @statement nvarchar(max);
    DECLARE @arrived bigint;
    DECLARE @moved bigint;
    DECLARE @departed bigint;
    DECLARE @written bigint;
    DECLARE @error nvarchar(max);

    SELECT @definition = g.definition FROM sqlkmeans.segmentation AS g WHERE g.name = @segmentation;
    -- Held from here on, so that no run or purge changes what is chosen now.
    IF @definition IS NOT NULL
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation;

    -- What stands now: the last published run or, after a rollback, the run that it restored.
    SELECT TOP (1) @current = COALESCE(r.restored_run_id, r.run_id)
    FROM sqlkmeans.run AS r
    WHERE r.segmentation = @segmentation AND r.status = N'published'
    ORDER BY r.published_at DESC;

    IF @run_id IS NULL
        SELECT @run_id = MAX(r.run_id)
        FROM sqlkmeans.run AS r
        WHERE r.segmentation = @segmentation AND r.status = N'published'
          AND r.kind <> N'rollback' AND r.run_id < @current;

    SELECT @restored = r.definition, @model_run_id = r.model_run_id, @then = r.published_at,
        @engine = r.engine, @k = r.k, @skipped = r.skipped, @expected = r.[rows]
    FROM sqlkmeans.run AS r
    WHERE r.run_id = @run_id AND r.segmentation = @segmentation AND r.status = N'published'
      AND r.kind <> N'rollback';

    IF @definition IS NULL
        SET @problems = @problems + N'@segmentation: ' + COALESCE(@segmentation, N'NULL')
            + N' given; allowed: the name of a segmentation in sqlkmeans.segmentation' + @line;
    ELSE IF @run_id IS NULL
        SET @problems = @problems + N'@run_id: there is no published run before the current one'
            + @line;
    ELSE IF @restored IS NULL
        SET @problems = @problems + N'@run_id: ' + CAST(@run_id AS nvarchar(20))
            + N' given; allowed: a published run, of kind fit or assign, of ' + @segmentation + @line;
    ELSE
    BEGIN
        IF sqlkmeans.quoted_name(JSON_VALUE(@restored, '$.target'), N'')
           <> sqlkmeans.quoted_name(JSON_VALUE(@definition, '$.target'), N'')
            SET @problems = @problems + N'@run_id: that run wrote to '
                + JSON_VALUE(@restored, '$.target') + N', and the target is now '
                + JSON_VALUE(@definition, '$.target') + @line;
        IF sqlkmeans.each_name(JSON_QUERY(@restored, '$.key'), N'{}', N', ')
           <> sqlkmeans.each_name(JSON_QUERY(@definition, '$.key'), N'{}', N', ')
            SET @problems = @problems + N'@run_id: that run had another key, '
                + JSON_QUERY(@restored, '$.key') + @line;
    END;

    IF @problems <> N'' AND @definition IS NOT NULL
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1;
    EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;

    SET @target = JSON_VALUE(@definition, '$.target');
    SET @key = JSON_QUERY(@definition, '$.key');
    SET @keys = sqlkmeans.each_name(@key, N'{}', N', ');
    SET @history = sqlkmeans.quoted_name(@target, N'_history');
    SET @table = sqlkmeans.quoted_name(@target, N'');
    SET @same = sqlkmeans.each_name(@key, N't.{} = h.{}', N' AND ');

    BEGIN TRY
        BEGIN TRANSACTION;

        EXECUTE sqlkmeans.reclaim_runs @segmentation = @segmentation;

        INSERT INTO sqlkmeans.run
            (segmentation, kind, status, engine, definition, restored_run_id, k, [rows], skipped,
             started_at, sqlkmeans_version, library_versions, client)
        VALUES
            (@segmentation, N'rollback', N'running', @engine, @restored, @run_id, @k, @expected,
             @skipped, SYSUTCDATETIME(), COALESCE(@client_version, sqlkmeans.version()), @library_versions,
             LEFT(ORIGINAL_LOGIN() + COALESCE(N', ' + COALESCE(@client, APP_NAME()), N''), 400));
        SET @new_run_id = SCOPE_IDENTITY();
        SET @staging = N'sqlkmeans.' + QUOTENAME(N'staging_' + CAST(@new_run_id AS nvarchar(20)));

        EXECUTE sqlkmeans.describe_key
            @table = @history, @key = @key, @key_columns = @key_columns OUTPUT;
        EXECUTE sqlkmeans.create_staging
            @run_id = @new_run_id, @key = @key, @key_columns = @key_columns;

        -- The run's row and its staging first: whoever looks at the runs need not wait for the rest.
        COMMIT TRANSACTION;
        BEGIN TRANSACTION;

        -- Of what stood then, only what differs from what stands, under the segment ids; own_ids makes
        -- each id stand for itself. Who is labelled now and was not then departs.
        EXECUTE sqlkmeans.as_owner
            @statement = N'SET @arrived = OBJECT_ID(@text);', @text = @table,
            @arrived = @table_id OUTPUT;
        SET @statement = N'SELECT @arrived = COUNT_BIG(*) FROM ' + @history + N' AS h WHERE ' + @stood + N';
INSERT INTO ' + @staging + N' WITH (TABLOCK) (' + @keys + N', cluster, distance, is_outlier)
SELECT ' + sqlkmeans.each_name(@key, N'h.{}', N', ') + N', h.segment_id, h.distance, h.is_outlier
FROM ' + @history + N' AS h
' + CASE WHEN @table_id IS NULL THEN N'WHERE ' + @stood + N';' ELSE N'LEFT JOIN ' + @table + N' AS t ON ' + @same + N'
WHERE ' + @stood + N'
  AND (t.segment_id IS NULL OR t.segment_id <> h.segment_id OR t.distance <> h.distance
       OR t.is_outlier <> h.is_outlier);
INSERT INTO ' + @staging + N' (' + @keys + N', cluster, distance, departed)
SELECT ' + sqlkmeans.each_name(@key, N't.{}', N', ') + N', 0, 0e0, 1
FROM ' + @table + N' AS t
WHERE NOT EXISTS (SELECT 1 FROM ' + @history + N' AS h WHERE ' + @same + N' AND ' + @stood + N');' END;
        EXECUTE sqlkmeans.as_owner
            @statement = @statement, @then = @then, @arrived = @rows OUTPUT;
        IF @rows <> @expected
        BEGIN
            SET @problems = N'run ' + CAST(@run_id AS nvarchar(20)) + N': it published '
                + CAST(@expected AS nvarchar(20)) + N' labels and the history still holds '
                + CAST(@rows AS nvarchar(20)) + N' of them, so it cannot come back';
            EXECUTE sqlkmeans.raise_problems @number = 50003, @problems = @problems;
        END;

        SET @now = sqlkmeans.publication_time(@segmentation);
        SELECT @segment_ids = sqlkmeans.own_ids(g.last_segment_id)
        FROM sqlkmeans.segmentation AS g
        WHERE g.name = @segmentation;

        EXECUTE sqlkmeans.apply_labels
            @segmentation = @segmentation, @target = @target, @key = @key, @run_id = @new_run_id,
            @segment_ids = @segment_ids, @now = @now, @tolerance = 0, @changes_only = 1,
            @arrived = @arrived OUTPUT, @moved = @moved OUTPUT, @departed = @departed OUTPUT,
            @written = @written OUTPUT;

        EXECUTE sqlkmeans.finish_run
            @segmentation = @segmentation, @run_id = @new_run_id, @model_run_id = @model_run_id,
            @now = @now, @arrived = @arrived, @moved = @moved, @departed = @departed,
            @written = @written;

        COMMIT TRANSACTION;

        EXECUTE sqlkmeans.refresh_function @segmentation = @segmentation, @run_id = @new_run_id;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1;
    END TRY
    BEGIN CATCH
        SET @error = ERROR_MESSAGE();
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        IF EXISTS (SELECT 1 FROM sqlkmeans.run AS r WHERE r.run_id = @new_run_id)
            EXECUTE sqlkmeans.fail_run @run_id = @new_run_id, @error = @error;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1;
        THROW;
    END CATCH;

    IF @quiet = 0
        SELECT @new_run_id AS run_id, @run_id AS restored_run_id, @arrived AS arrived,
            @moved AS moved, @departed AS departed, @written AS written;
END;
GO

-- procedures/rename_segment.sql
IF OBJECT_ID(N'sqlkmeans.rename_segment', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.rename_segment AS RETURN 0;');
GO
-- Gives a segment a name, in all its runs, that later runs keep. Under the lock: a run that is training
-- has read the names already, and would publish the one of before.
ALTER PROCEDURE sqlkmeans.rename_segment
    @segmentation nvarchar(128) = NULL,
    @segment_id   int           = NULL,
    @name         nvarchar(400) = NULL,
    @description  nvarchar(max) = NULL,
    @help         bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@segmentation', N'nvarchar(128)', N'NULL', N'The name of the segmentation.'),
            (2, N'@segment_id', N'int', N'NULL', N'The segment, 1 or more.'),
            (3, N'@name', N'nvarchar(400)', N'NULL',
                N'The name; no other segment of the active model has it.'),
            (4, N'@description', N'nvarchar(max)', N'NULL',
                N'One sentence; NULL leaves the one that is there.'),
            (5, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @problems nvarchar(max) = N'';
    DECLARE @active bigint;
    DECLARE @other int;

    SET @name = LTRIM(RTRIM(@name));
    IF EXISTS (SELECT 1 FROM sqlkmeans.segmentation AS g WHERE g.name = @segmentation)
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation;

    SELECT @active = g.active_run_id FROM sqlkmeans.segmentation AS g WHERE g.name = @segmentation;
    SELECT @other = MIN(s.segment_id)
    FROM sqlkmeans.segment AS s
    INNER JOIN sqlkmeans.run AS r ON r.run_id = s.run_id
    WHERE r.segmentation = @segmentation AND s.name = @name AND s.segment_id <> @segment_id;

    IF NOT EXISTS (SELECT 1 FROM sqlkmeans.segmentation AS g WHERE g.name = @segmentation)
        SET @problems = @problems + N'@segmentation: ' + COALESCE(@segmentation, N'NULL')
            + N' given; allowed: the name of a segmentation in sqlkmeans.segmentation' + @line;
    ELSE IF @segment_id IS NULL OR @segment_id < 1 OR NOT EXISTS
        (SELECT 1 FROM sqlkmeans.segment AS s
         INNER JOIN sqlkmeans.run AS r ON r.run_id = s.run_id
         WHERE r.segmentation = @segmentation AND s.segment_id = @segment_id)
        SET @problems = @problems + N'@segment_id: '
            + COALESCE(CAST(@segment_id AS nvarchar(10)), N'NULL')
            + N' given; allowed: a segment of ' + @segmentation + @line;
    IF COALESCE(@name, N'') = N'' OR LEN(@name) > 128
        SET @problems = @problems + N'@name: ' + COALESCE(@name, N'NULL')
            + N' given; allowed: 1 to 128 characters' + @line;
    ELSE IF sqlkmeans.is_visible(@name) = 0
        SET @problems = @problems + N'@name: has characters that cannot be seen, or that change how '
            + N'others are; allowed: letters, digits, signs and blanks' + @line;
    ELSE IF @other IS NOT NULL
        SET @problems = @problems + N'@name: ' + @name + N' is or was the name of segment '
            + CAST(@other AS nvarchar(10)) + N'; each needs its own' + @line;

    BEGIN TRY
        EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;
        BEGIN TRANSACTION;

        UPDATE s
        SET name = @name, name_source = N'given', description = COALESCE(@description, s.description)
        FROM sqlkmeans.segment AS s
        INNER JOIN sqlkmeans.run AS r ON r.run_id = s.run_id
        WHERE r.segmentation = @segmentation AND s.segment_id = @segment_id;

        COMMIT TRANSACTION;
        EXECUTE sqlkmeans.refresh_function @segmentation = @segmentation, @run_id = @active;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1;
    END TRY
    BEGIN CATCH
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        IF @segmentation IS NOT NULL
            EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1;
        THROW;
    END CATCH;
END;
GO

-- procedures/mark_outliers.sql
IF OBJECT_ID(N'sqlkmeans.mark_outliers', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.mark_outliers AS RETURN 0;');
GO
-- Counts the outliers among the labelled rows of the caller's #sqlkmeans_scored, in its
-- #sqlkmeans_cluster: those beyond the limits that stand there. With @share, the limits are found
-- before: in the middle between the nearest of so large a share of a cluster's rows that are
-- farthest, and the next one before them; the distance of the farthest where the share is no row.
ALTER PROCEDURE sqlkmeans.mark_outliers
    @share float = NULL
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    -- SQL and Python may round the last digit of a distance apart: who is as far as the limit itself
    -- is no outlier.
    IF @share IS NOT NULL
        UPDATE c
        SET outlier_distance = n.distance * sqlkmeans.shared_number(N'outlier_slack')
        FROM #sqlkmeans_cluster AS c
        INNER JOIN (SELECT p.cluster, AVG(p.distance) AS distance
                    FROM (SELECT s.[sqlkmeans cluster] AS cluster, s.[sqlkmeans distance] AS distance,
                              ROW_NUMBER() OVER (PARTITION BY s.[sqlkmeans cluster]
                                                 ORDER BY s.[sqlkmeans distance] DESC) AS place,
                              FLOOR(@share * g.size) AS beyond
                          FROM #sqlkmeans_scored AS s
                          INNER JOIN #sqlkmeans_cluster AS g ON g.cluster = s.[sqlkmeans cluster]) AS p
                    WHERE p.place BETWEEN p.beyond AND p.beyond + 1
                    GROUP BY p.cluster) AS n
            ON n.cluster = c.cluster;

    IF EXISTS (SELECT 1 FROM #sqlkmeans_cluster AS c WHERE c.outlier_distance IS NOT NULL)
        UPDATE c
        SET outliers = COALESCE(n.outliers, 0)
        FROM #sqlkmeans_cluster AS c
        LEFT JOIN (SELECT g.cluster, COUNT_BIG(*) AS outliers
                   FROM #sqlkmeans_scored AS s
                   INNER JOIN #sqlkmeans_cluster AS g ON g.cluster = s.[sqlkmeans cluster]
                   WHERE s.[sqlkmeans distance] > g.outlier_distance
                   GROUP BY g.cluster) AS n
            ON n.cluster = c.cluster;
END;
GO

-- procedures/assign_rows.sql
IF OBJECT_ID(N'sqlkmeans.assign_rows', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.assign_rows AS RETURN 0;');
GO
-- Reads the rows of a run's source, gives each the nearest segment of the published model, and describes
-- them, in the tables of label_rows; gives the publication.
ALTER PROCEDURE sqlkmeans.assign_rows
    @run_id      bigint,
    @medians     bit,
    @total       bigint        OUTPUT,
    @publication nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @segmentation nvarchar(128);
    DECLARE @definition nvarchar(max);
    DECLARE @relation nvarchar(max);
    DECLARE @key nvarchar(max);
    DECLARE @unique bit;
    DECLARE @missing nvarchar(16);
    DECLARE @active bigint;
    DECLARE @k int;
    DECLARE @features int;
    DECLARE @given nvarchar(max);
    DECLARE @target nvarchar(1000);
    DECLARE @target_id bigint;
    DECLARE @rows bigint;
    DECLARE @near bigint;
    DECLARE @warnings nvarchar(max);
    DECLARE @problems nvarchar(max);
    DECLARE @begun datetime2(6) = SYSUTCDATETIME();

    SELECT @segmentation = r.segmentation, @definition = r.definition, @active = g.active_run_id,
        @key = JSON_QUERY(r.definition, '$.key'), @missing = JSON_VALUE(m.definition, '$.missing')
    FROM sqlkmeans.run AS r
    INNER JOIN sqlkmeans.segmentation AS g ON g.name = r.segmentation
    INNER JOIN sqlkmeans.run AS m ON m.run_id = g.active_run_id
    WHERE r.run_id = @run_id;
    SELECT @relation = sqlkmeans.relation(j.source), @unique = sqlkmeans.has_unique_key(j.source, @key)
    FROM OPENJSON(@definition) WITH (source nvarchar(max) '$.source') AS j;
    SELECT @features = MAX(f.position) FROM sqlkmeans.model_feature AS f WHERE f.run_id = @active;
    -- Two numbers a feature beside a key of 900 bytes fill the 8,060 of a row.
    IF @features > 430
    BEGIN
        SET @problems = N'the model has ' + CAST(@features AS nvarchar(10)) + N' features (levels '
            + N'of categories count); allowed in T-SQL: 430; assign with the client: sqlkmeans assign';
        EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;
    END;

    -- In the order of their segment ids, because a tie goes to the lowest.
    INSERT INTO #sqlkmeans_point (cluster, position, scaled_value, value)
    SELECT DENSE_RANK() OVER (ORDER BY c.segment_id), c.position, c.scaled_value, c.value
    FROM sqlkmeans.centroid AS c
    WHERE c.run_id = @active;
    INSERT INTO #sqlkmeans_cluster
        (cluster, segment_id, size, within_ss, inertia, weight, distance, outlier_distance)
    SELECT ROW_NUMBER() OVER (ORDER BY c.segment_id), c.segment_id, 0, 0e0, 0e0, 0e0, 0e0,
        c.outlier_distance
    FROM sqlkmeans.centroid AS c
    WHERE c.run_id = @active AND c.position = 1;
    SET @k = ROWCOUNT_BIG();
    INSERT INTO #sqlkmeans_named (segment_id, name, name_source, description)
    SELECT s.segment_id, s.name, s.name_source, s.description
    FROM sqlkmeans.segment AS s
    WHERE s.run_id = @active;

    -- Reads the source once, as the caller, so that labels and profile are of the same moment.
    SET @target = sqlkmeans.quoted_name(JSON_VALUE(@definition, '$.target'), N'');
    EXECUTE sqlkmeans.as_owner
        @statement = N'SET @arrived = OBJECT_ID(@text);', @text = @target,
        @arrived = @target_id OUTPUT;
    SET @given = sqlkmeans.each_name(@key, N's.{}', N', ') + CASE WHEN @target_id IS NULL
        THEN N', NULL, NULL, NULL, NULL, 1e0' ELSE N', NULL, p.segment_id, p.distance, p.is_outlier, 1e0' END;
    IF @target_id IS NOT NULL
        SET @relation = @relation + N'
LEFT JOIN ' + @target + N' AS p ON ' + sqlkmeans.each_name(@key, N'p.{} = s.{}', N' AND ');
    EXECUTE sqlkmeans.prepare_rows
        @run_id = @run_id, @model_run_id = @active, @key = @key, @features = @features,
        @relation = @relation, @given = @given, @rows = @total OUTPUT;
    IF COALESCE(@unique, 0) = 0
        EXECUTE sqlkmeans.check_keys @relation = N'#sqlkmeans_prepared AS s', @key = @key;
    EXECUTE sqlkmeans.score_rows @key = @key, @k = @k, @features = @features, @rows = @rows OUTPUT;

    IF @rows = 0
        EXECUTE sqlkmeans.raise_problems @number = 50003,
            @problems = N'source: no row that can be labelled; nothing was changed';
    IF @rows < @total AND @missing = N'error'
    BEGIN
        SET @problems = N'source: ' + CAST(@total - @rows AS nvarchar(20))
            + N' rows have a NULL, or a value that log1p does not take, in a feature, and '
            + N'missing = "error"; correct the rows, or set missing to "skip", "mean" or "median"';
        EXECUTE sqlkmeans.raise_problems @number = 50003, @problems = @problems;
    END;

    -- Medians lie near those that were published last.
    SELECT @near = MAX(r.run_id)
    FROM sqlkmeans.run AS r
    WHERE r.segmentation = @segmentation AND r.status = N'published' AND r.model_run_id = @active
      AND EXISTS (SELECT 1 FROM sqlkmeans.segment_feature AS f
                  WHERE f.run_id = r.run_id AND f.median IS NOT NULL);
    EXECUTE sqlkmeans.describe_scored
        @run_id = @active, @active = @active, @features = @features, @medians = @medians,
        @near = @near;
    EXECUTE sqlkmeans.mark_outliers;
    EXECUTE sqlkmeans.count_bins @run_id = @active, @scored_run_id = @active;

    EXECUTE sqlkmeans.watch_labels
        @model_run_id = @active, @definition = @definition, @rows = @rows, @warnings = @warnings OUTPUT;
    IF @warnings <> N''
        SET @warnings = N'a refit is due: ' + REPLACE(LEFT(@warnings, LEN(@warnings) - 1), NCHAR(10),
            NCHAR(10) + N'a refit is due: ') + NCHAR(10);
    IF TRY_CAST(JSON_VALUE(@definition, '$.outlier') AS float) IS NOT NULL
       AND NOT EXISTS (SELECT 1 FROM #sqlkmeans_cluster AS c WHERE c.outliers IS NOT NULL)
        SET @warnings = N'the model of run ' + CAST(@active AS nvarchar(20))
            + N' has no limits, so nobody is an outlier until the next run finds them' + NCHAR(10)
            + @warnings;
    EXECUTE sqlkmeans.publication_json
        @run_id = @run_id, @model_run_id = @active, @rows = @rows, @total = @total, @since = @begun,
        @more = N'', @warnings = @warnings, @publication = @publication OUTPUT;
END;
GO

-- procedures/read_source.sql
IF OBJECT_ID(N'sqlkmeans.read_source', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.read_source AS RETURN 0;');
GO
-- Reads a source as the caller into the caller's table #sqlkmeans_input, which gets the key and the
-- features [sqlkmeans f1], [sqlkmeans f2] … beside its own columns: names that no key has, which
-- check_definition sees to. [sqlkmeans place] counts the keys that differ; it is the caller's to look
-- whether all do. @columns is what Python gets beside row and segment, as a SELECT lists it.
ALTER PROCEDURE sqlkmeans.read_source
    @definition nvarchar(max),
    @staging    nvarchar(200),
    @columns    nvarchar(max) OUTPUT,
    @total      bigint OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @relation nvarchar(max);
    DECLARE @sample_weight nvarchar(128);
    DECLARE @key nvarchar(max) = JSON_QUERY(@definition, '$.key');
    DECLARE @target nvarchar(1000) =
        sqlkmeans.quoted_name(JSON_VALUE(@definition, '$.target'), N'');
    DECLARE @target_id bigint;
    DECLARE @key_columns nvarchar(max);
    DECLARE @added nvarchar(max) = N'';
    DECLARE @names nvarchar(max) = N'';
    DECLARE @values nvarchar(max) = N'';
    DECLARE @statement nvarchar(max);
    DECLARE @feature nvarchar(128);
    DECLARE @type nvarchar(16);
    DECLARE @x nvarchar(10);
    DECLARE @problem nvarchar(max);
    DECLARE @position int = 0;

    SELECT @relation = sqlkmeans.relation(j.source), @sample_weight = j.sample_weight
    FROM OPENJSON(@definition) WITH (
        source nvarchar(max) '$.source', sample_weight nvarchar(max) '$.sample_weight') AS j;

    SET @columns = N'';
    WHILE EXISTS (SELECT 1 FROM OPENJSON(@definition, '$.features') AS j
                  WHERE CAST(j.[key] AS int) = @position)
    BEGIN
        SELECT @feature = JSON_VALUE(j.[value], '$.column'),
            @type = COALESCE(JSON_VALUE(j.[value], '$.type'), N'number')
        FROM OPENJSON(@definition, '$.features') AS j
        WHERE CAST(j.[key] AS int) = @position;
        SET @position = @position + 1;
        SET @x = CAST(@position AS nvarchar(10));
        SET @names = @names + N', [sqlkmeans f' + @x + N']';
        -- What Python reads. A category as hexadecimal UTF-16: half of a surrogate pair would end
        -- the call before the script begins, and trailing blanks might not arrive.
        SET @columns = @columns + N', ' + CASE @type
            WHEN N'category' THEN N'CONVERT(varchar(406), CAST([sqlkmeans f' + @x
                + N'] AS varbinary(202)), 1)'
            ELSE N'[sqlkmeans f' + @x + N']' END + N' AS f' + @x;
        -- A category with one letter more than a level may have, so that a text that is too long
        -- is seen; a date as days since 1970.
        SET @added = @added + N'ALTER TABLE #sqlkmeans_input ADD [sqlkmeans f' + @x + N']'
            + CASE @type WHEN N'category' THEN N' nvarchar(101) COLLATE DATABASE_DEFAULT NULL; '
                         ELSE N' float NULL; ' END;
        SET @values = @values + N', ' + CASE @type
            WHEN N'category' THEN N'CAST(s.' + QUOTENAME(@feature) + N' AS nvarchar(101))'
            WHEN N'date' THEN N'CAST(DATEDIFF(day, ''19700101'', CAST(s.' + QUOTENAME(@feature)
                + N' AS date)) AS float)'
            ELSE N'CAST(s.' + QUOTENAME(@feature) + N' AS float)' END;
    END;
    IF @sample_weight IS NOT NULL
        SET @columns = @columns + N', [sqlkmeans weight] AS sample_weight';

    -- A row of 8,060 bytes holds so many numbers beside a key of 900.
    IF @position > 870
    BEGIN
        SET @problem = N'features: ' + sqlkmeans.number_text(@position)
            + N' given; allowed where the server trains: 870';
        EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problem;
    END;

    -- Columns that are added to a temporary table by a nested batch stay in it. A key may be NULL
    -- here, so that all such rows are told of at once.
    EXECUTE sqlkmeans.describe_key
        @table = @staging, @key = @key, @key_columns = @key_columns OUTPUT,
        @before = N'ALTER TABLE #sqlkmeans_input ADD ', @after = N' NULL; ';
    SET @statement = @key_columns + @added;
    EXECUTE sys.sp_executesql @statement;
    EXECUTE sqlkmeans.store_in_columns @table = N'#sqlkmeans_input';

    -- In key order: restarts depend on the order of rows.
    EXECUTE sqlkmeans.as_owner
        @statement = N'SET @arrived = OBJECT_ID(@text);', @text = @target,
        @arrived = @target_id OUTPUT;
    SET @statement = N'INSERT INTO #sqlkmeans_input WITH (TABLOCK) ([sqlkmeans row], [sqlkmeans place], '
        + sqlkmeans.each_name(@key, N'{}', N', ')
        + N', [sqlkmeans previous], [sqlkmeans before], [sqlkmeans flagged], [sqlkmeans weight]' + @names
        + N') SELECT ROW_NUMBER() OVER (ORDER BY ' + sqlkmeans.each_name(@key, N's.{}', N', ')
        + N'), DENSE_RANK() OVER (ORDER BY ' + sqlkmeans.each_name(@key, N's.{}', N', ')
        + N'), ' + sqlkmeans.each_name(@key, N's.{}', N', ') + N', '
        + CASE WHEN @target_id IS NULL THEN N'NULL, NULL, NULL'
               ELSE N'p.segment_id, p.distance, p.is_outlier' END + N', '
        + COALESCE(N'CAST(s.' + QUOTENAME(@sample_weight) + N' AS float)', N'1e0')
        + @values + N' FROM ' + @relation
        + CASE WHEN @target_id IS NULL THEN N''
               ELSE N' LEFT JOIN ' + @target + N' AS p ON '
                   + sqlkmeans.each_name(@key, N'p.{} = s.{}', N' AND ') END
        + N'; SET @total = ROWCOUNT_BIG();';
    EXECUTE sys.sp_executesql @statement, N'@total bigint OUTPUT', @total = @total OUTPUT;
END;
GO

-- procedures/job_text.sql
IF OBJECT_ID(N'sqlkmeans.job_text', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.job_text AS RETURN 0;');
GO
-- What Python is told of a run beside its rows, as JSON: the definition, and what is published now.
ALTER PROCEDURE sqlkmeans.job_text
    @run_id         bigint,
    @reference_date date,
    @job            nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @segmentation nvarchar(128);
    DECLARE @definition nvarchar(max);
    DECLARE @active bigint;
    DECLARE @last_segment_id int;
    DECLARE @compared bigint;
    DECLARE @compared_definition nvarchar(max);

    SELECT @segmentation = r.segmentation, @definition = r.definition, @active = g.active_run_id,
        @last_segment_id = g.last_segment_id
    FROM sqlkmeans.run AS r
    INNER JOIN sqlkmeans.segmentation AS g ON g.name = r.segmentation
    WHERE r.run_id = @run_id;

    SELECT TOP (1) @compared = COALESCE(r.restored_run_id, r.run_id)
    FROM sqlkmeans.run AS r
    WHERE r.segmentation = @segmentation AND r.status = N'published'
    ORDER BY r.run_id DESC;
    SELECT @compared_definition = r.definition FROM sqlkmeans.run AS r WHERE r.run_id = @compared;

    SET @job = N'{"run_id":' + CAST(@run_id AS nvarchar(20))
        + N',"last_segment_id":' + CAST(COALESCE(@last_segment_id, 0) AS nvarchar(10))
        + N',"reference_date":"' + CONVERT(nvarchar(10), @reference_date, 23)
        + N'","definition":' + @definition
        + N',"model_feature":' + COALESCE((
            SELECT f.position, f.feature, f.transform, f.weight, f.center, f.scale, f.fill,
                f.source_column, f.type, f.level, f.low, f.high, f.reference_date
            FROM sqlkmeans.model_feature AS f
            WHERE f.run_id = @active
            ORDER BY f.position
            FOR JSON PATH, INCLUDE_NULL_VALUES), N'[]')
        + N',"centroid":' + COALESCE((
            SELECT c.segment_id, c.position, c.scaled_value
            FROM sqlkmeans.centroid AS c
            WHERE c.run_id = @active
            FOR JSON PATH), N'[]')
        + N',"segment":' + COALESCE((
            SELECT s.segment_id, s.name
            FROM sqlkmeans.segment AS s
            WHERE s.run_id = @active AND s.segment_id > 0
            FOR JSON PATH), N'[]')
        + N',"given":' + COALESCE((
            SELECT s.segment_id, MAX(s.name) AS name
            FROM sqlkmeans.segment AS s
            INNER JOIN sqlkmeans.run AS r ON r.run_id = s.run_id
            WHERE r.segmentation = @segmentation AND s.name_source = N'given'
            GROUP BY s.segment_id
            FOR JSON PATH), N'[]')
        -- The run whose labels are published now, to compare with. Its definition is JSON,
        -- which not every server nests as such.
        + COALESCE(N',"compared_run":{"definition":' + @compared_definition + N',' + STUFF((
            SELECT r.run_id, r.[rows], r.k, r.silhouette, r.mean_distance, r.outliers
            FROM sqlkmeans.run AS r
            WHERE r.run_id = @compared
            FOR JSON PATH, WITHOUT_ARRAY_WRAPPER), 1, 1, N''), N'')
        + N',"feature_bin":' + COALESCE((
            SELECT b.position, b.bin, b.feature, b.label, b.upper, b.customers
            FROM sqlkmeans.feature_bin AS b
            WHERE b.run_id = @compared
            FOR JSON PATH), N'[]')
        + N',"segment_feature":' + COALESCE((
            SELECT e.feature, e.mean
            FROM sqlkmeans.segment_feature AS e
            WHERE e.run_id = @compared AND e.segment_id = 0
            FOR JSON PATH), N'[]')
        + N'}';
END;
GO

-- procedures/train_category.sql
IF OBJECT_ID(N'sqlkmeans.train_category', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_category AS RETURN 0;');
GO
-- Learns the levels of a category, column @number of the caller's #sqlkmeans_input: a row of
-- model_feature for each that is frequent enough, most frequent first, and one for the rest. They share
-- a scale, so that a category weighs as much as one number. Or says in #sqlkmeans_column why not.
ALTER PROCEDURE sqlkmeans.train_category
    @run_id  bigint,
    @number  int,
    @whole   nvarchar(max),
    @scaling nvarchar(16),
    @missing nvarchar(16)
AS
BEGIN
    SET NOCOUNT ON;

    DECLARE @statement nvarchar(max);
    DECLARE @min_frequency float = sqlkmeans.shared_number(N'min_frequency');
    DECLARE @max_categories int = sqlkmeans.shared_number(N'max_categories');
    DECLARE @levels bigint;
    DECLARE @rows bigint;
    DECLARE @total float;
    DECLARE @kept int;
    DECLARE @lacking float;
    DECLARE @problem nvarchar(max);

    -- With a full stop behind, blanks at the end count too. Apart are levels that cannot have a
    -- feature: longer than 100 characters, or called as the rest is, which they join.
    CREATE TABLE #sqlkmeans_level
    (
        level     nvarchar(102) COLLATE Latin1_General_100_BIN2 NULL,
        customers bigint        NOT NULL,
        total     float         NOT NULL,
        apart     bit           NOT NULL,
        place     int           NOT NULL
    );
    SET @statement = N'INSERT INTO #sqlkmeans_level (level, customers, total, apart, place)
SELECT g.level, g.customers, g.total, g.apart,
    ROW_NUMBER() OVER (ORDER BY g.apart, CASE WHEN g.level IS NULL THEN 1 ELSE 0 END, g.total DESC, g.level)
FROM (SELECT x.level, COUNT_BIG(*) AS customers, ROUND(SUM(x.weight), 9) AS total,
          CASE WHEN x.level IS NULL OR LEN(x.level) > 101 OR x.level = N''(other).'' THEN 1 ELSE 0 END
              AS apart
      FROM (SELECT (i.[sqlkmeans f' + CAST(@number AS nvarchar(10)) + N'] + N''.'') COLLATE Latin1_General_100_BIN2 AS level,
                i.[sqlkmeans weight] AS weight
            FROM #sqlkmeans_input AS i
            WHERE i.[sqlkmeans weight] > 0e0' + @whole + N') AS x
      GROUP BY x.level) AS g;';
    EXECUTE sys.sp_executesql @statement;
    SELECT @lacking = CASE WHEN @missing IN (N'mean', N'median') THEN COALESCE(SUM(l.total), 0e0) ELSE 0e0 END
    FROM #sqlkmeans_level AS l
    WHERE l.level IS NULL;
    DELETE FROM #sqlkmeans_level WHERE level IS NULL;
    SELECT @levels = COUNT_BIG(*), @rows = SUM(l.customers), @total = SUM(l.total) FROM #sqlkmeans_level AS l;
    SELECT @kept = COUNT(*)
    FROM #sqlkmeans_level AS l
    INNER JOIN #sqlkmeans_column AS c ON c.number = @number
    WHERE l.apart = 0
      AND l.total >= COALESCE(CAST(JSON_VALUE(c.feature, '$.min_frequency') AS float), @min_frequency) * @total
      AND l.place <= COALESCE(CAST(JSON_VALUE(c.feature, '$.max_categories') AS int), @max_categories);

    SET @problem = CASE
        WHEN @levels = 0 THEN N'every value is NULL, so there is nothing to cluster by'
        WHEN @levels = 1 THEN N'constant in all ' + CAST(@rows AS nvarchar(20))
            + N' rows, so it separates nobody; remove it from features'
        WHEN @rows >= 100 AND @levels > 0.5 * @rows THEN N'like a key ('
            + CAST(@levels AS nvarchar(20)) + N' levels in ' + CAST(@rows AS nvarchar(20))
            + N' rows), so it identifies and does not group; remove it from features, or group it '
            + N'in a SELECT'
        WHEN @kept = 0 THEN N'none of its ' + CAST(@levels AS nvarchar(20))
            + N' levels has a share of min_frequency or more and at most 100 characters; lower it, '
            + N'shorten them in a SELECT, or remove the column from features'
    END;
    IF @problem IS NOT NULL
    BEGIN
        UPDATE #sqlkmeans_column
        SET problem = problem + name + N': ' + @problem + NCHAR(10)
        WHERE number = @number;
        RETURN 0;
    END;

    -- What is too rare, or has no name, are the others, as one more level. A missing value is filled in
    -- with the most frequent level.
    SET @total = @total + @lacking;
    INSERT INTO sqlkmeans.model_feature
        (run_id, position, feature, transform, weight, center, scale, fill, source_column, type,
         level)
    SELECT @run_id,
        s.place + (SELECT COALESCE(MAX(f.position), 0) FROM sqlkmeans.model_feature AS f WHERE f.run_id = @run_id),
        c.name + N' = ' + COALESCE(s.level, N'(other)') COLLATE DATABASE_DEFAULT, N'none', c.weight,
        CASE WHEN @scaling IN (N'standard', N'robust') THEN s.share ELSE 0e0 END,
        CASE @scaling WHEN N'minmax' THEN SQRT(2e0) WHEN N'none' THEN 1e0
                      ELSE SQRT(SUM(s.share * (1e0 - s.share)) OVER ()) END,
        CASE WHEN @missing IN (N'mean', N'median') THEN CASE s.place WHEN 1 THEN 1e0 ELSE 0e0 END END,
        c.name, N'category', s.level
    FROM #sqlkmeans_column AS c
    CROSS JOIN (SELECT k.place, MAX(k.level) AS level, SUM(k.total) / @total AS share
                FROM (SELECT CASE WHEN l.place <= @kept THEN l.place ELSE @kept + 1 END AS place,
                          CASE WHEN l.place <= @kept THEN LEFT(l.level, LEN(l.level) - 1) END AS level,
                          l.total + CASE l.place WHEN 1 THEN @lacking ELSE 0e0 END AS total
                      FROM #sqlkmeans_level AS l) AS k
                GROUP BY k.place) AS s
    WHERE c.number = @number;
END;
GO

-- procedures/train_quantiles.sql
IF OBJECT_ID(N'sqlkmeans.train_quantiles', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_quantiles AS RETURN 0;');
GO
-- Gives a number of the caller's #sqlkmeans_column its fill value, its limits, and its centre and scale
-- as far as they need no sum; or its problem. Whatever it takes of quantiles comes from one sort of
-- the column: filling in, pulling in and a logarithm change values, and not their order.
-- A quantile is the mean over a window of the cumulated weight that is as wide as one of the effective
-- number of rows (Akinshin, 2023); where all weigh the same, it lies between two neighbours (type 7 of
-- Hyndman & Fan, 1996). PERCENTILE_CONT is not on every server.
ALTER PROCEDURE sqlkmeans.train_quantiles
    @number   int,
    @whole    nvarchar(max),
    @scaling  nvarchar(16),
    @missing  nvarchar(16),
    @weighted bit,
    @weight   float,
    @squares  float
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @statement nvarchar(max);
    DECLARE @transform nvarchar(16);
    DECLARE @known float;
    DECLARE @fill float;
    DECLARE @low float;
    DECLARE @high float;
    DECLARE @floors bigint;
    DECLARE @filled bit = 0;
    DECLARE @problem nvarchar(max);

    -- Two looks: the first at what is known, whose quantiles fill in and pull in; the second at what
    -- K-Means will see, among which what is lacking has the weight @lacking.
    CREATE TABLE #sqlkmeans_quantile
    (
        name    nvarchar(10) COLLATE DATABASE_DEFAULT NOT NULL,
        filled  bit          NOT NULL,
        lacking float        NOT NULL,
        first   float        NOT NULL,
        last    float        NOT NULL,
        value   float        NULL
    );
    CREATE TABLE #sqlkmeans_ranked (value float NULL, first float NOT NULL, last float NOT NULL);

    SELECT @transform = c.transform, @known = c.weights, @floors = c.floors,
        @fill = CASE @missing WHEN N'mean' THEN c.mean END,
        @statement = N'INSERT INTO #sqlkmeans_ranked (value, first, last)
SELECT x.value, x.upto - x.weight, x.upto
FROM (SELECT v.value, v.weight, ' + CASE @weighted WHEN 0 THEN N'CAST(ROW_NUMBER() OVER (ORDER BY v.value) AS float)'
            ELSE N'SUM(v.weight) OVER (ORDER BY v.value, v.row_number ROWS UNBOUNDED PRECEDING)' END + N' AS upto
      FROM (SELECT ' + c.value + N' AS value, i.[sqlkmeans weight] AS weight, i.[sqlkmeans row] AS row_number
            FROM #sqlkmeans_input AS i
            WHERE i.[sqlkmeans weight] > 0e0 AND ' + c.value + N' IS NOT NULL' + @whole + N') AS v) AS x
WHERE EXISTS (SELECT 1 FROM #sqlkmeans_quantile AS q
              WHERE x.upto > q.first - q.lacking AND x.upto - x.weight < q.last
                AND (x.upto > q.first OR x.upto - x.weight < q.last - q.lacking));'
    FROM #sqlkmeans_column AS c
    WHERE c.number = @number;
    INSERT INTO #sqlkmeans_quantile (name, filled, lacking, first, last)
    SELECT q.name, q.filled, t.weight - c.weights, q.share * (t.weight - t.width),
        q.share * (t.weight - t.width) + t.width
    FROM #sqlkmeans_column AS c
    CROSS APPLY (VALUES (N'fill', CASE @missing WHEN N'median' THEN 0.5e0 END, 0),
        (N'low', c.low_share, 0), (N'high', c.high_share, 0),
        (N'first', CASE @scaling WHEN N'robust' THEN 0.25e0 END, 1),
        (N'middle', CASE @scaling WHEN N'robust' THEN 0.5e0 END, 1),
        (N'last', CASE @scaling WHEN N'robust' THEN 0.75e0 END, 1)) AS q (name, share, filled)
    CROSS APPLY (SELECT CASE WHEN q.filled = 1 AND @missing IN (N'mean', N'median') THEN 1 ELSE 0 END AS whole) AS a
    CROSS APPLY (SELECT CASE a.whole WHEN 1 THEN @weight ELSE c.weights END AS weight,
                     CASE a.whole WHEN 1 THEN @squares / @weight ELSE c.squares / c.weights END AS width) AS t
    WHERE c.number = @number AND q.share IS NOT NULL;
    IF EXISTS (SELECT 1 FROM #sqlkmeans_quantile AS q)
        EXECUTE sys.sp_executesql @statement;
    -- Before the first and behind the last of them is none.
    INSERT INTO #sqlkmeans_ranked (value, first, last) VALUES (NULL, -1e300, 0e0), (NULL, @known, 1e300);

    WHILE 1 = 1
    BEGIN
        -- Among all, a value is that of the known at the same place, where it is lower than what is
        -- filled in; of that before as many as are filled in, where it is higher. Pulled in and
        -- transformed the second time only, when the limits are known.
        UPDATE q
        SET value = w.value
        FROM #sqlkmeans_quantile AS q
        INNER JOIN (
            SELECT p.name, CASE WHEN MIN(p.value) = MAX(p.value) THEN MIN(p.value)
                                ELSE SUM(p.value * p.part) / SUM(p.part) END AS value
            FROM (SELECT u.name, s.last - s.first AS part, sqlkmeans.prepared_value(
                      CASE WHEN u.lacking = 0 OR b.value < @fill THEN b.value
                           WHEN a.value > @fill THEN a.value ELSE @fill END,
                      CASE @filled WHEN 1 THEN @low END, CASE @filled WHEN 1 THEN @high END,
                      CASE @filled WHEN 1 THEN @transform ELSE N'none' END) AS value
                  FROM #sqlkmeans_quantile AS u
                  INNER JOIN #sqlkmeans_ranked AS b ON b.last > u.first AND b.first < u.last
                  INNER JOIN #sqlkmeans_ranked AS a
                      ON a.last + u.lacking > u.first AND a.first + u.lacking < u.last
                  CROSS APPLY (SELECT MAX(v.first) AS first, MIN(v.last) AS last
                               FROM (VALUES (u.first, u.last), (b.first, b.last),
                                         (a.first + u.lacking, a.last + u.lacking)) AS v (first, last)) AS s
                  WHERE u.filled = @filled AND s.last > s.first) AS p
            GROUP BY p.name) AS w
            ON w.name = q.name;
        IF @filled = 1
            BREAK;
        SELECT @fill = COALESCE(@fill, MAX(CASE q.name WHEN N'fill' THEN q.value END)),
            @low = MAX(CASE q.name WHEN N'low' THEN q.value END),
            @high = MAX(CASE q.name WHEN N'high' THEN q.value END)
        FROM #sqlkmeans_quantile AS q;
        SET @problem = CASE
            WHEN @low = @high THEN N'winsorize pulls every value in to ' + sqlkmeans.number_text(@low)
                + N'; use quantiles that lie further out, or none'
            WHEN @transform = N'log1p' AND @floors > 0 AND COALESCE(@low, -1e0) <= -1e0
                THEN CAST(@floors AS nvarchar(20))
                    + N' rows are -1 or less, where log1p has no value; use transform = "none" or '
                    + N'correct the rows' END;
        IF @problem IS NOT NULL
            BREAK;
        SET @filled = 1;
    END;

    UPDATE c
    SET fill = @fill, low = @low, high = @high, problem = c.problem + COALESCE(c.name + N': ' + @problem + NCHAR(10), N''),
        usable = CASE WHEN @problem IS NULL THEN 1 ELSE 0 END,
        fill_value = sqlkmeans.prepared_value(@fill, @low, @high, N'none'),
        origin = sqlkmeans.prepared_value(c.mean, @low, @high, @transform),
        center = CASE @scaling WHEN N'robust' THEN q.middle WHEN N'minmax' THEN m.least ELSE 0e0 END,
        scale = CASE @scaling WHEN N'robust' THEN q.last - q.first
                              WHEN N'minmax' THEN m.greatest - m.least ELSE 1e0 END
    FROM #sqlkmeans_column AS c
    CROSS JOIN (SELECT MAX(CASE a.name WHEN N'first' THEN a.value END) AS first,
                    MAX(CASE a.name WHEN N'middle' THEN a.value END) AS middle,
                    MAX(CASE a.name WHEN N'last' THEN a.value END) AS last
                FROM #sqlkmeans_quantile AS a) AS q
    CROSS APPLY (SELECT sqlkmeans.prepared_value(c.least, @low, @high, @transform) AS least,
                     sqlkmeans.prepared_value(c.greatest, @low, @high, @transform) AS greatest) AS m
    WHERE c.number = @number;
END;
GO

-- procedures/train_columns.sql
IF OBJECT_ID(N'sqlkmeans.train_columns', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_columns AS RETURN 0;');
GO
-- Learns from the caller's #sqlkmeans_input how each column of its #sqlkmeans_column is prepared, as the
-- run's rows of model_feature: all columns in one look and, for "standard", a second. Raises every
-- problem of all columns at once. @fitted rows count in the fit.
ALTER PROCEDURE sqlkmeans.train_columns
    @run_id         bigint,
    @definition     nvarchar(max),
    @reference_date date,
    @features       int    OUTPUT,
    @fitted         bigint OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @problems nvarchar(max) = N'';
    DECLARE @scaling nvarchar(16) = JSON_VALUE(@definition, '$.scaling');
    DECLARE @missing nvarchar(16) = JSON_VALUE(@definition, '$.missing');
    DECLARE @key nvarchar(max) = JSON_QUERY(@definition, '$.key');
    DECLARE @weighted bit;
    DECLARE @winsorize nvarchar(max) = sqlkmeans.quantiles(JSON_QUERY(@definition, '$.winsorize'));
    DECLARE @days nvarchar(20) =
        CAST(DATEDIFF(day, '19700101', @reference_date) AS nvarchar(10)) + N'e0';
    DECLARE @number int = 0;
    DECLARE @columns int;
    DECLARE @type nvarchar(16);
    DECLARE @value nvarchar(60);
    DECLARE @whole nvarchar(max) = N'';
    DECLARE @block int;
    DECLARE @values nvarchar(max);
    DECLARE @sums nvarchar(max);
    DECLARE @statement nvarchar(max);
    DECLARE @total bigint;
    DECLARE @weight float;
    DECLARE @squares float;
    DECLARE @kept bigint;
    DECLARE @absent bigint;
    DECLARE @unkeyed bigint;
    DECLARE @differing bigint;

    SELECT @weighted = CASE WHEN j.sample_weight IS NULL THEN 0 ELSE 1 END
    FROM OPENJSON(@definition) WITH (sample_weight nvarchar(max) '$.sample_weight') AS j;
    INSERT INTO #sqlkmeans_column
        (number, x, name, type, feature, transform, weight, value, low_share, high_share, absent, known,
         skipped, usable)
    SELECT f.number, f.x, f.name, f.type, f.feature, COALESCE(JSON_VALUE(f.feature, '$.transform'), N'none'),
        COALESCE(CAST(JSON_VALUE(f.feature, '$.weight') AS float), 1),
        REPLACE(CASE f.type WHEN N'date' THEN N'(' + @days + N' - i.[sqlkmeans f{}])'
                            WHEN N'category' THEN N'CAST(NULL AS float)'
                            ELSE N'i.[sqlkmeans f{}]' END, N'{}', f.x),
        CAST(JSON_VALUE(f.winsorize, '$[0]') AS float), CAST(JSON_VALUE(f.winsorize, '$[1]') AS float), 0, 0, 0, 1
    FROM (SELECT CAST(j.[key] AS int) + 1 AS number, CAST(CAST(j.[key] AS int) + 1 AS nvarchar(10)) AS x,
              JSON_VALUE(j.[value], '$.column') AS name,
              COALESCE(JSON_VALUE(j.[value], '$.type'), N'number') AS type, j.[value] AS feature,
              COALESCE(sqlkmeans.quantiles(JSON_QUERY(j.[value], '$.winsorize')), @winsorize)
                  AS winsorize
          FROM OPENJSON(@definition, '$.features') AS j) AS f;
    SET @columns = ROWCOUNT_BIG();
    IF @missing = N'skip'
        SET @whole = sqlkmeans.each_number(@columns, N' AND i.[sqlkmeans f{}] IS NOT NULL', N'');

    -- Values that count in the fit: t.fit is 1 there. Of 40 columns at a time, because a row of an
    -- aggregate has 8,060 bytes.
    WHILE @number < @columns
    BEGIN
        SET @block = CASE WHEN @columns - @number < 40 THEN @columns - @number ELSE 40 END;
        SET @sums = sqlkmeans.joined((
            SELECT N', ' + REPLACE(REPLACE(N'COUNT_BIG(i.[sqlkmeans f' + c.x + N']) AS a{}, COUNT_BIG(CASE t.fit WHEN 1 THEN ~ END) AS k{},
    MIN(CASE t.fit WHEN 1 THEN ~ END) AS l{}, MAX(CASE t.fit WHEN 1 THEN ~ END) AS h{},
    COUNT_BIG(CASE WHEN t.fit = 1 AND ~ <> FLOOR(~) THEN 1 END) AS p{},
    COUNT_BIG(CASE WHEN t.whole = 1 AND ~ <= -1e0 THEN 1 END) AS u{},
    SUM(CASE WHEN t.fit = 1 AND ~ IS NOT NULL THEN t.w END) AS w{},
    SUM(CASE WHEN t.fit = 1 AND ~ IS NOT NULL THEN t.w * t.w END) AS v{},
    SUM(CASE t.fit WHEN 1 THEN t.w * ~ END) AS m{}', N'~', c.value), N'{}', CAST(c.number - @number AS nvarchar(10)))
            FROM #sqlkmeans_column AS c
            WHERE c.number > @number AND c.number <= @number + @block
            ORDER BY c.number
            FOR XML PATH('')), N'');
        SET @statement = N'SELECT COUNT_BIG(*) AS total, COUNT_BIG(t.fit) AS fitted, COUNT_BIG(t.whole) AS kept,
    SUM(CASE t.fit WHEN 1 THEN t.w END) AS weight, SUM(CASE t.fit WHEN 1 THEN t.w * t.w END) AS squares,
    COUNT_BIG(CASE WHEN t.w IS NULL OR t.w < 0e0 THEN 1 END) AS absent,
    COUNT_BIG(CASE WHEN ' + sqlkmeans.each_name(@key, N'i.{} IS NULL', N' OR ') + N' THEN 1 END)
        + COUNT_BIG(*) - COALESCE(MAX(i.[sqlkmeans place]), 0) AS unkeyed' + @sums + N'
INTO #sqlkmeans_sums
FROM #sqlkmeans_input AS i
CROSS APPLY (SELECT i.[sqlkmeans weight] AS w, CASE WHEN 1 = 1' + @whole + N' THEN 1 END AS whole,
                 CASE WHEN i.[sqlkmeans weight] > 0e0' + @whole + N' THEN 1 END AS fit) AS t;
UPDATE c
SET absent = s.total - v.held, known = v.known, least = v.least, greatest = v.greatest,
    fractions = v.fractions, floors = v.floors, weights = v.weights, squares = v.squares,
    mean = v.total / NULLIF(v.weights, 0e0)
FROM #sqlkmeans_column AS c
CROSS JOIN #sqlkmeans_sums AS s
CROSS APPLY (VALUES ' + sqlkmeans.each_number(@block,
            N'(@number + {}, s.a{}, s.k{}, s.l{}, s.h{}, s.p{}, s.u{}, s.w{}, s.v{}, s.m{})', N', ')
            + N') AS v (number, held, known, least, greatest, fractions, floors, weights, squares, total)
WHERE v.number = c.number;
SELECT @total = s.total, @fitted = s.fitted, @kept = s.kept, @weight = s.weight, @squares = s.squares,
    @absent = s.absent, @unkeyed = s.unkeyed
FROM #sqlkmeans_sums AS s;
DROP TABLE #sqlkmeans_sums;';
        EXECUTE sys.sp_executesql
            @statement, N'@number int, @total bigint OUTPUT, @fitted bigint OUTPUT, @kept bigint OUTPUT,
                @weight float OUTPUT, @squares float OUTPUT, @absent bigint OUTPUT,
                @unkeyed bigint OUTPUT',
            @number = @number, @total = @total OUTPUT, @fitted = @fitted OUTPUT, @kept = @kept OUTPUT,
            @weight = @weight OUTPUT, @squares = @squares OUTPUT,
            @absent = @absent OUTPUT, @unkeyed = @unkeyed OUTPUT;
        SET @number = @number + @block;
    END;

    IF @unkeyed > 0
        EXECUTE sqlkmeans.check_keys @relation = N'#sqlkmeans_input AS s', @key = @key;
    IF @total = 0
        EXECUTE sqlkmeans.raise_problems @number = 50003,
            @problems = N'the source has no rows; nothing was changed';
    IF @absent > 0
        SET @problems = N'sample_weight: ' + CAST(@absent AS nvarchar(20))
            + N' rows are NULL or negative; every weight must be a number, 0 or more' + @line;
    ELSE IF @fitted = 0 AND @kept > 0
        SET @problems = N'sample_weight: no row has a weight above 0' + @line;
    -- What is NULL is told whatever else; what is of no use besides is not looked at further.
    UPDATE c
    SET skipped = CASE @missing WHEN N'skip' THEN c.absent ELSE 0 END,
        usable = CASE WHEN n.known = 0 OR n.almost = 1 OR c.least = c.greatest THEN 0 ELSE 1 END,
        problem = CASE
            WHEN c.absent > 0 AND @missing = N'error' THEN c.name + N': ' + CAST(c.absent AS nvarchar(20))
                + CASE c.absent WHEN 1 THEN N' row is' ELSE N' rows are' END
                + N' NULL and missing = "error"; correct the rows, or set missing to "skip", '
                + N'"mean" or "median"' + @line
            WHEN n.almost = 1 THEN c.name + N': ' + CAST(c.absent AS nvarchar(20)) + N' of '
                + CAST(@total AS nvarchar(20)) + N' rows are NULL, more than 95%; remove it from features' + @line
            ELSE N'' END
            + CASE WHEN @fitted = 0 OR n.almost = 1 THEN N''
                   WHEN n.known = 0
                   THEN c.name + N': every value is NULL, so there is nothing to cluster by' + @line
                   WHEN c.least = c.greatest
                   THEN c.name + N': constant (' + sqlkmeans.number_text(c.least) + N' in all '
                       + CAST(c.known AS nvarchar(20)) + N' rows), so it separates nobody; remove it from features'
                       + @line
                   ELSE N'' END
    FROM #sqlkmeans_column AS c
    CROSS APPLY (SELECT CASE c.type WHEN N'category' THEN 1 ELSE c.known END AS known,
                     CASE WHEN @missing <> N'error' AND c.absent < @total
                           AND @total >= sqlkmeans.shared_number(N'almost_missing_rows')
                           AND c.absent > sqlkmeans.shared_number(N'almost_missing') * @total
                          THEN 1 ELSE 0 END AS almost) AS n;
    IF @kept = 0
        SET @problems = @problems + N'missing = "skip" leaves no row: each of the '
            + CAST(@total AS nvarchar(20)) + N' rows has a NULL in a feature' + @line;

    -- Weights that cannot be used, or no row: nothing can be learnt.
    SET @number = CASE @fitted WHEN 0 THEN @columns ELSE 0 END;
    WHILE @number < @columns
    BEGIN
        SET @number = @number + 1;
        SELECT @type = CASE c.usable WHEN 1 THEN c.type ELSE N'' END, @value = c.value
        FROM #sqlkmeans_column AS c
        WHERE c.number = @number;
        -- A column with so few numbers cannot hold as many different ones.
        IF @type = N'number' AND EXISTS (
            SELECT 1 FROM #sqlkmeans_column AS c
            WHERE c.number = @number AND c.known >= 100 AND c.fractions = 0
              AND c.greatest - c.least >= c.known - 1 AND c.greatest - c.least < 2 * c.known)
        BEGIN
            SET @statement = N'SELECT @differing = COUNT_BIG(DISTINCT ' + @value
                + N') FROM #sqlkmeans_input AS i WHERE i.[sqlkmeans weight] > 0e0' + @whole + N';';
            EXECUTE sys.sp_executesql
                @statement, N'@differing bigint OUTPUT', @differing = @differing OUTPUT;
            UPDATE #sqlkmeans_column
            SET usable = 0, problem = problem + name + N': like a key (' + CAST(known AS nvarchar(20))
                + N' whole numbers, all different), so it identifies and does not measure; '
                + N'remove it from features' + @line
            WHERE number = @number AND known = @differing;
            IF @@ROWCOUNT > 0
                CONTINUE;
        END;
        IF @type IN (N'number', N'date')
            EXECUTE sqlkmeans.train_quantiles
                @number = @number, @whole = @whole, @scaling = @scaling, @missing = @missing,
                @weighted = @weighted, @weight = @weight, @squares = @squares;
    END;

    -- What K-Means will see, about a value in the middle: the difference of two large squares would have
    -- no digits. Where nothing is filled in nothing is NULL; a category's sums are of no use.
    SET @number = CASE WHEN @scaling = N'standard' AND @fitted > 0
                            AND EXISTS (SELECT 1 FROM #sqlkmeans_column AS c WHERE c.type <> N'category')
                       THEN 0 ELSE @columns END;
    WHILE @number < @columns
    BEGIN
        SET @block = CASE WHEN @columns - @number < 40 THEN @columns - @number ELSE 40 END;
        SET @values = sqlkmeans.joined((
            SELECT N', COALESCE(' + CASE c.usable WHEN 1 THEN sqlkmeans.clipped(c.value, c.low, c.high) ELSE N'NULL' END
                + N', ' + COALESCE(sqlkmeans.float_literal(c.fill_value), N'0e0') + N') AS x' + c.x
            FROM #sqlkmeans_column AS c
            WHERE c.number > @number AND c.number <= @number + @block
            FOR XML PATH('')), N', ');
        SET @sums = sqlkmeans.joined((
            SELECT N', ' + REPLACE(REPLACE(N'SUM(t.w * (~)) / SUM(t.w) AS m{}, SUM(t.w * (~) * (~)) / SUM(t.w) AS q{}', N'~',
                sqlkmeans.transformed(N't.x' + c.x, c.transform) + N' - ('
                + COALESCE(sqlkmeans.float_literal(c.origin), N'0e0') + N')'), N'{}', CAST(c.number - @number AS nvarchar(10)))
            FROM #sqlkmeans_column AS c
            WHERE c.number > @number AND c.number <= @number + @block
            FOR XML PATH('')), N', ');
        SET @statement = N'UPDATE c
SET center = c.origin + v.rest, scale = CASE WHEN v.squares > v.rest * v.rest
    THEN SQRT(v.squares - v.rest * v.rest) ELSE 0e0 END
FROM #sqlkmeans_column AS c
CROSS JOIN (SELECT ' + @sums + N'
            FROM #sqlkmeans_input AS i
            CROSS APPLY (SELECT i.[sqlkmeans weight] AS w, ' + @values + N') AS t
            WHERE i.[sqlkmeans weight] > 0e0' + @whole + N') AS s
CROSS APPLY (VALUES ' + sqlkmeans.each_number(@block, N'(@number + {}, s.m{}, s.q{})', N', ') + N') AS v (number, rest, squares)
WHERE v.number = c.number;';
        EXECUTE sys.sp_executesql @statement, N'@number int', @number = @number;
        SET @number = @number + @block;
    END;

    UPDATE #sqlkmeans_column
    SET usable = 0, problem = problem + name + N': scaling = "' + @scaling + N'" cannot scale it, '
        + N'because its ' + CASE @scaling WHEN N'robust' THEN N'interquartile range' ELSE N'deviation' END
        + N' is 0; use another scaling' + @line
    WHERE type <> N'category' AND usable = 1 AND @fitted > 0 AND COALESCE(scale, 0) <= 0;
    SET @number = CASE @fitted WHEN 0 THEN @columns ELSE 0 END;
    WHILE @number < @columns
    BEGIN
        SET @number = @number + 1;
        IF EXISTS (SELECT 1 FROM #sqlkmeans_column AS c
                   WHERE c.number = @number AND c.usable = 1 AND c.type = N'category')
            EXECUTE sqlkmeans.train_category
                @run_id = @run_id, @number = @number, @whole = @whole, @scaling = @scaling, @missing = @missing;
        INSERT INTO sqlkmeans.model_feature
            (run_id, position, feature, transform, weight, center, scale, fill, source_column, type,
             low, high, reference_date)
        SELECT @run_id, 1 + (SELECT COALESCE(MAX(f.position), 0) FROM sqlkmeans.model_feature AS f
                             WHERE f.run_id = @run_id),
            c.name, c.transform, c.weight, c.center, c.scale, c.fill, c.name, c.type, c.low, c.high,
            CASE c.type WHEN N'date' THEN @reference_date END
        FROM #sqlkmeans_column AS c
        WHERE c.number = @number AND c.usable = 1 AND c.type <> N'category';
    END;

    -- Each feature takes two numbers of a row of #sqlkmeans_prepared, and a row has 8,060 bytes: as
    -- many leave room for a key of 900 and what else is in it.
    SELECT @features = COUNT(*) FROM sqlkmeans.model_feature AS f WHERE f.run_id = @run_id;
    SET @problems = @problems + sqlkmeans.joined((
        SELECT N'' + c.problem FROM #sqlkmeans_column AS c ORDER BY c.number FOR XML PATH('')), N'');
    IF @features > 430
        SET @problems = @problems + N'features: ' + CAST(@features AS nvarchar(10))
            + N', each kept level of a category counted; allowed with @engine = N''tsql'': 430; '
            + N'name fewer columns, or lower max_categories' + @line;
    SET @problems = @problems + sqlkmeans.joined((
        SELECT MIN(f.feature) + N': two features would have this name; rename the column or the level' + @line
        FROM sqlkmeans.model_feature AS f
        WHERE f.run_id = @run_id
        GROUP BY f.feature COLLATE Latin1_General_100_BIN2
        HAVING COUNT(*) > 1
        ORDER BY f.feature COLLATE Latin1_General_100_BIN2
        FOR XML PATH('')), N'');
    EXECUTE sqlkmeans.raise_problems @number = 50003, @problems = @problems;
END;
GO

-- procedures/train_seed.sql
IF OBJECT_ID(N'sqlkmeans.train_seed', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_seed AS RETURN 0;');
GO
-- Finds where the passes over all rows start: draws the caller's #sqlkmeans_sample from its
-- #sqlkmeans_prepared, and leaves in its #sqlkmeans_centroid, behind the mean as row 0, the best of
-- n_init starts on up to 500 k rows of it, carried to its end there (Bradley and Fayyad, 1998). A start
-- is greedy k-means++ (Arthur and Vassilvitskii, 2007), the best of a few candidates each time; a
-- candidate is drawn in proportion to its squared distance from the centroids so far. @weighing rows
-- have a weight above 0. #sqlkmeans_sample, #sqlkmeans_border and #sqlkmeans_moved get their columns here.
ALTER PROCEDURE sqlkmeans.train_seed
    @run_id     bigint,
    @definition nvarchar(max),
    @k          int,
    @features   int,
    @weighing   bigint,
    @threshold  float OUTPUT,
    @n_iter     int   OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @z nvarchar(max) = sqlkmeans.each_number(@features, N'z{}', N', ');
    DECLARE @kept_z nvarchar(max) = sqlkmeans.each_number(@features, N'[sqlkmeans z{}]', N', ');
    DECLARE @kept nvarchar(max) = @kept_z
        + sqlkmeans.each_number(@features, N', [sqlkmeans o{}]', N'');
    DECLARE @squared nvarchar(max) = sqlkmeans.each_number(
        @features, N'(s.[sqlkmeans z{}] - c.z{}) * (s.[sqlkmeans z{}] - c.z{})', N' + ');
    DECLARE @n_init int = CAST(JSON_VALUE(@definition, '$.n_init') AS int);
    DECLARE @seed bigint = CAST(JSON_VALUE(@definition, '$.seed') AS bigint);
    DECLARE @seed_rows int = CASE WHEN @k > 4 THEN 500 * @k ELSE 2000 END;
    DECLARE @sample_rows float = sqlkmeans.shared_number(N'bin_rows');
    DECLARE @share float;
    DECLARE @most int = sqlkmeans.shared_number(N'max_iter');
    DECLARE @differing int;
    DECLARE @statement nvarchar(max);
    DECLARE @problem nvarchar(max);

    CREATE TABLE #sqlkmeans_seed
    (
        [sqlkmeans row]      int   NOT NULL,
        [sqlkmeans previous] int   NULL,
        [sqlkmeans weight]   float NOT NULL,
        closest              float NULL
    );
    CREATE TABLE #sqlkmeans_draw (number float NOT NULL);
    SET @statement = sqlkmeans.each_number(@features,
        N'ALTER TABLE #sqlkmeans_seed ADD [sqlkmeans z{}] float NULL; '
        + N'ALTER TABLE #sqlkmeans_sample ADD [sqlkmeans o{}] float NULL; '
        + N'ALTER TABLE #sqlkmeans_sample ADD [sqlkmeans z{}] float NULL; '
        + N'ALTER TABLE #sqlkmeans_border ADD [sqlkmeans z{}] float NULL; '
        + N'ALTER TABLE #sqlkmeans_moved ADD z{} float NULL;', N' ');
    EXECUTE sys.sp_executesql @statement;
    EXECUTE sqlkmeans.store_in_columns @table = N'#sqlkmeans_seed';
    EXECUTE sqlkmeans.store_in_columns @table = N'#sqlkmeans_border';

    -- Which rows are drawn depends on their order by key and on the seed alone. The fifth power modulo
    -- a prime for which it takes no value twice puts the numbers of rows in another order; only what is
    -- below a share of it is sorted. Enough that weigh something for the seeds, and for the ends of
    -- bins. Rows that repeat often can crowd out the rare ones: k that differ are always in.
    IF @sample_rows < @seed_rows
        SET @sample_rows = @seed_rows;
    SET @share = (@sample_rows + 6e0 * SQRT(@sample_rows) + 10e0) / @weighing;
    SET @statement = N'INSERT INTO #sqlkmeans_sample ([sqlkmeans row], [sqlkmeans weight], place, ' + @kept + N')
SELECT h.[sqlkmeans row], h.[sqlkmeans weight], ROW_NUMBER() OVER (ORDER BY
    CASE WHEN h.[sqlkmeans weight] > 0e0 THEN 0 ELSE 1 END, h.[sqlkmeans hash]), ' + @kept + N'
FROM (SELECT r.*, f.fourth * n.number % 2147483647 AS [sqlkmeans hash]
      FROM #sqlkmeans_prepared AS r
      CROSS APPLY (SELECT (r.[sqlkmeans row] + (@seed + 1) * 48271) % 2147483647 AS number) AS n
      CROSS APPLY (SELECT n.number * n.number % 2147483647 AS square) AS s
      CROSS APPLY (SELECT s.square * s.square % 2147483647 AS fourth) AS f) AS h
WHERE @share >= 1e0 OR h.[sqlkmeans hash] < @share * 2147483647e0;
INSERT INTO #sqlkmeans_seed ([sqlkmeans row], [sqlkmeans weight], ' + @kept_z + N')
SELECT [sqlkmeans row], [sqlkmeans weight], ' + @kept_z + N'
FROM #sqlkmeans_sample
WHERE [sqlkmeans weight] > 0e0 AND place <= @seed_rows;
SELECT @differing = COUNT(*) FROM (SELECT DISTINCT TOP (@k) ' + @kept_z + N' FROM #sqlkmeans_seed) AS d;
IF @differing < @k
BEGIN
    INSERT INTO #sqlkmeans_seed ([sqlkmeans row], [sqlkmeans weight], ' + @kept_z + N')
    SELECT TOP (@k) -ROW_NUMBER() OVER (ORDER BY MIN([sqlkmeans row])), 1e0, ' + @kept_z + N'
    FROM #sqlkmeans_prepared
    WHERE [sqlkmeans weight] > 0e0
    GROUP BY ' + @kept_z + N'
    ORDER BY MIN([sqlkmeans row]);
    SET @differing = ROWCOUNT_BIG();
END;
INSERT INTO #sqlkmeans_centroid (cluster, ' + @z + N')
SELECT 0, ' + sqlkmeans.each_number(@features, N'AVG([sqlkmeans z{}])', N', ') + N' FROM #sqlkmeans_seed OPTION (MAXDOP 1);
' -- About the means: a difference of sums has no digits left where a feature lies far from 0.
        + N'SELECT @threshold = '
        + sqlkmeans.float_literal(sqlkmeans.shared_number(N'tolerance')) + N' * ('
        + sqlkmeans.each_number(@features,
            N'AVG((s.[sqlkmeans z{}] - c.z{}) * (s.[sqlkmeans z{}] - c.z{}))', N' + ')
        + N') / ' + CAST(@features AS nvarchar(10)) + N'
FROM #sqlkmeans_seed AS s CROSS JOIN #sqlkmeans_centroid AS c OPTION (MAXDOP 1);';
    EXECUTE sys.sp_executesql
        @statement, N'@k int, @seed bigint, @share float, @seed_rows int, @differing int OUTPUT, @threshold float OUTPUT',
        @k = @k, @seed = @seed, @share = @share, @seed_rows = @seed_rows,
        @differing = @differing OUTPUT, @threshold = @threshold OUTPUT;
    IF @differing < @k
    BEGIN
        SET @problem = N'k = ' + CAST(@k AS nvarchar(10)) + N' needs at least '
            + CAST(@k AS nvarchar(10)) + N' customers that differ in their features, and there are '
            + CAST(@differing AS nvarchar(10)) + N' among ' + CAST(@weighing AS nvarchar(20))
            + N' rows; lower k or add features';
        EXECUTE sqlkmeans.raise_problems @number = 50003, @problems = @problem;
    END;

    -- All starts are one text. They are compared near their ends, where the best is easy to tell; the
    -- last turn carries that one on, from the copy of it in rows -1, -2 ... Where rounding leads past
    -- the last row, the farthest is the candidate. Plans are kept: small tables that are emptied and
    -- filled in each turn would have them compiled anew every few turns.
    SET @statement = N'DECLARE @shift float;
DECLARE @inertia float;
DECLARE @least float;
DECLARE @start int = 1;
DECLARE @cluster int;
DECLARE @row int;
DECLARE @passes int;
DECLARE @message nvarchar(400);
WHILE @start <= @n_init + 1
BEGIN
DELETE FROM #sqlkmeans_centroid WHERE cluster > 0;
UPDATE #sqlkmeans_centroid SET cluster = -cluster WHERE cluster < 0 AND @start > @n_init;
UPDATE #sqlkmeans_seed SET closest = 1e0;
SELECT @cluster = 1, @passes = 0, @shift = NULL;
WHILE @cluster <= @k AND @start <= @n_init
BEGIN
    SET @row = NULL;
    DELETE FROM #sqlkmeans_draw;
    INSERT INTO #sqlkmeans_draw (number)
    SELECT CAST(SUBSTRING(HASHBYTES(''SHA2_256'', CONCAT(@seed, N''|'', @start, N''|'', @cluster, N''|'', t.trial)), 1, 6)
        AS bigint) / 281474976710656e0
    FROM (VALUES ' + sqlkmeans.each_number(2 + FLOOR(LOG(@k)), N'({})', N', ') + N') AS t (trial)
    WHERE @cluster > 1 OR t.trial = 1;
    SELECT TOP (1) @row = g.row_number
    FROM (SELECT c.row_number, SUM(s.[sqlkmeans weight] * CASE WHEN ' + @squared + N' < s.closest OR @cluster = 1
                                                               THEN ' + @squared + N' ELSE s.closest END)
              AS potential
          FROM #sqlkmeans_seed AS s
          CROSS JOIN (SELECT DISTINCT u.row_number, ' + @z + N'
                      FROM #sqlkmeans_draw AS d
                      CROSS JOIN (SELECT SUM(s.[sqlkmeans weight] * s.closest) AS total FROM #sqlkmeans_seed AS s) AS w
                      INNER JOIN (SELECT s.[sqlkmeans row] AS row_number, '
        + sqlkmeans.each_number(@features, N's.[sqlkmeans z{}] AS z{}', N', ') + N',
                                      s.[sqlkmeans weight] * s.closest AS chance,
                                      SUM(s.[sqlkmeans weight] * s.closest) OVER (
                                          ORDER BY s.[sqlkmeans row] ROWS UNBOUNDED PRECEDING) AS upto
                                  FROM #sqlkmeans_seed AS s) AS u
                          ON u.chance > 0e0 AND d.number * w.total >= u.upto - u.chance AND d.number * w.total < u.upto) AS c
          GROUP BY c.row_number) AS g
    ORDER BY g.potential, g.row_number
    OPTION (MAXDOP 1, KEEPFIXED PLAN);
    IF @row IS NULL
        SELECT TOP (1) @row = s.[sqlkmeans row]
        FROM #sqlkmeans_seed AS s
        WHERE s.[sqlkmeans weight] > 0e0
        ORDER BY s.closest DESC, s.[sqlkmeans row];
    INSERT INTO #sqlkmeans_centroid (cluster, ' + @z + N')
    SELECT @cluster, ' + @kept_z + N' FROM #sqlkmeans_seed WHERE [sqlkmeans row] = @row;
    UPDATE s
    SET closest = ' + @squared + N'
    FROM #sqlkmeans_seed AS s
    INNER JOIN #sqlkmeans_centroid AS c ON c.cluster = @cluster
    WHERE s.closest > ' + @squared + N' OR @cluster = 1
    OPTION (KEEPFIXED PLAN);
    SET @cluster = @cluster + 1;
END;
WHILE @passes < @most AND (@shift IS NULL OR @shift > CASE WHEN @start > @n_init THEN 1e0 ELSE 1e1 END * @threshold)
BEGIN
' + sqlkmeans.pass_text(N'#sqlkmeans_seed', @k, @features) + N'
    SET @passes = @passes + 1;
END;
IF @start > @n_init
    SET @n_iter = @n_iter + @passes;
ELSE IF @least IS NULL OR @inertia < @least
BEGIN
    SELECT @least = @inertia, @n_iter = @passes;
    DELETE FROM #sqlkmeans_centroid WHERE cluster < 0;
    INSERT INTO #sqlkmeans_centroid (cluster, ' + @z + N')
    SELECT -cluster, ' + @z + N' FROM #sqlkmeans_centroid WHERE cluster > 0;
END;
SET @message = N''run '' + CAST(@run_id AS nvarchar(20)) + N'': '' + CASE WHEN @start > @n_init THEN N''the best start''
    ELSE N''start '' + CAST(@start AS nvarchar(10)) + N'' of '' + CAST(@n_init AS nvarchar(10)) END
    + N'', '' + CAST(@passes AS nvarchar(10)) + N'' passes over the sample'';
RAISERROR (@message, 0, 1) WITH NOWAIT;
SET @start = @start + 1;
END;';
    EXECUTE sys.sp_executesql
        @statement, N'@run_id bigint, @k int, @n_init int, @seed bigint, @most int, @threshold float, @n_iter int OUTPUT',
        @run_id = @run_id, @k = @k, @n_init = @n_init, @seed = @seed, @most = @most,
        @threshold = @threshold, @n_iter = @n_iter OUTPUT;
END;
GO

-- procedures/train_passes.sql
IF OBJECT_ID(N'sqlkmeans.train_passes', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_passes AS RETURN 0;');
GO
-- Passes over the rows of the caller's #sqlkmeans_prepared until its #sqlkmeans_centroid rests, so that
-- a centroid is the mean of its rows, or as many as may be; leaves the last one's sums in
-- #sqlkmeans_moved. Passes count in the run's row, outside any transaction, so that others see how far
-- it is.
-- A row that is nearer to its centroid than to any other by a margin keeps it until some centroid is
-- half of that away from where it was then, in the rows -1, -2 ... (after Hamerly, 2010). So
-- #sqlkmeans_border has the rows by which a pass differs from the one before, few and fewer, and
-- #sqlkmeans_moved keeps the sums of the others.
ALTER PROCEDURE sqlkmeans.train_passes
    @run_id    bigint,
    @k         int,
    @features  int,
    @threshold float,
    @n_iter    int OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @z nvarchar(max) = sqlkmeans.each_number(@features, N', z{}', N'');
    DECLARE @kept_z nvarchar(max) = sqlkmeans.each_number(@features, N', r.[sqlkmeans z{}]', N'');
    DECLARE @squared nvarchar(max) = sqlkmeans.each_number(
        @features, N'(r.[sqlkmeans z{}] - c.z{}) * (r.[sqlkmeans z{}] - c.z{})', N' + ');
    DECLARE @all nvarchar(max) = N'SET @passes = 1;
' + sqlkmeans.pass_text(N'#sqlkmeans_prepared', @k, @features);
    DECLARE @part nvarchar(max) = N'SET @passes = 0;
WHILE @passes = 0 OR (@passes < 5 AND @shift > @rest AND 2 * @drift < @margin)
BEGIN
' + sqlkmeans.pass_text(N'#sqlkmeans_border', @k, @features)
        + N'SELECT @drift = SQRT(MAX(' + sqlkmeans.each_number(
            @features, N'(c.z{} - e.z{}) * (c.z{} - e.z{})', N' + ') + N'))
FROM #sqlkmeans_centroid AS c
INNER JOIN #sqlkmeans_centroid AS e ON e.cluster = -c.cluster
WHERE c.cluster > 0;
SET @passes = @passes + 1;
END;';
    DECLARE @within nvarchar(max) = N'(SELECT COUNT(*) FROM #sqlkmeans_centroid AS c WHERE c.cluster > 0 AND '
        + @squared + N' <= q.reach * q.reach)';
    DECLARE @narrow nvarchar(max);
    DECLARE @rows nvarchar(128);
    DECLARE @statement nvarchar(max);
    DECLARE @passes int;
    DECLARE @done int = 0;
    DECLARE @most int = sqlkmeans.shared_number(N'max_iter');
    DECLARE @rest float = 1e-16 * @threshold;
    DECLARE @margin float;
    DECLARE @drift float;
    DECLARE @shift float;
    DECLARE @inertia float;
    DECLARE @message nvarchar(400);

    -- How many centroids are as near as that: the row's own, and more where it may change.
    IF sqlkmeans.compares_in_pairs(@k, @features) = 1
        SET @within = sqlkmeans.each_number(@k, N'CASE WHEN ' + REPLACE(sqlkmeans.each_number(
            @features, N'(r.[sqlkmeans z{}] - @c~_{}) * (r.[sqlkmeans z{}] - @c~_{})', N' + '), N'~', N'{}')
            + N' <= q.reach * q.reach THEN 1 ELSE 0 END', N' + ');
    SET @narrow = sqlkmeans.centroid_values(@k, @features)
        + sqlkmeans.sums_text(N'{rows}', @k, @features, 1, N'')
        + N'INSERT INTO #sqlkmeans_border (level, [sqlkmeans row], [sqlkmeans previous], [sqlkmeans weight]'
        + REPLACE(@kept_z, N'r.', N'') + N')
SELECT @level, r.[sqlkmeans row], r.[sqlkmeans previous], r.[sqlkmeans weight]' + @kept_z + N'
FROM {rows} AS r
' + sqlkmeans.nearest(@k, @features) + N'
INNER JOIN #sqlkmeans_centroid AS o ON o.cluster = n.cluster
CROSS APPLY (SELECT SQRT(' + REPLACE(@squared, N'c.z', N'o.z') + N') + @margin AS reach) AS q
WHERE ' + @within + N' > 1;
DELETE FROM #sqlkmeans_border WHERE level < @level;
' + sqlkmeans.sums_text(N'#sqlkmeans_border', @k, @features, 1, N'-')
        + N'DELETE FROM #sqlkmeans_centroid WHERE cluster < 0;
INSERT INTO #sqlkmeans_centroid (cluster' + @z + N')
SELECT -cluster' + @z + N' FROM #sqlkmeans_centroid WHERE cluster > 0;';

    WHILE @done < @most AND (@shift IS NULL OR @shift > @rest)
    BEGIN
        -- The first pass tells how far centroids still move; one without a row may go anywhere.
        IF @shift IS NULL
            SELECT @margin = NULL, @rows = NULL;
        ELSE IF @margin IS NULL OR 2 * @drift >= @margin
            SELECT @margin = 8 * SQRT(@shift), @rows = N'#sqlkmeans_prepared';
        ELSE IF 3 * 8 * SQRT(@shift) < @margin - 2 * @drift
            SELECT @margin = 8 * SQRT(@shift), @rows = N'#sqlkmeans_border';
        ELSE
            SET @rows = N'';
        IF @rows IS NULL OR @rows = N'#sqlkmeans_prepared'
            DELETE FROM #sqlkmeans_moved;
        IF @rows LIKE N'#%'
        BEGIN
            SET @statement = REPLACE(@narrow, N'{rows}', @rows);
            EXECUTE sys.sp_executesql
                @statement, N'@level int, @margin float', @level = @done, @margin = @margin;
        END;
        SET @statement = CASE WHEN @rows IS NULL THEN @all ELSE @part END;
        EXECUTE sys.sp_executesql @statement,
            N'@k int, @rest float, @margin float, @passes int OUTPUT, @shift float OUTPUT,
                @inertia float OUTPUT, @drift float OUTPUT',
            @k = @k, @rest = @rest, @margin = @margin, @passes = @passes OUTPUT,
            @shift = @shift OUTPUT, @inertia = @inertia OUTPUT, @drift = @drift OUTPUT;
        SELECT @done = @done + @passes, @n_iter = @n_iter + @passes;

        UPDATE sqlkmeans.run
        SET n_iter = @n_iter, inertia = @inertia
        WHERE run_id = @run_id;
        SET @message = N'run ' + CAST(@run_id AS nvarchar(20)) + N': pass '
            + CAST(@done AS nvarchar(10)) + N' over all rows, inertia '
            + sqlkmeans.number_text(@inertia);
        RAISERROR (@message, 0, 1) WITH NOWAIT;
    END;
END;
GO

-- procedures/train_labels.sql
IF OBJECT_ID(N'sqlkmeans.train_labels', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_labels AS RETURN 0;');
GO
-- From the centroids of the caller's #sqlkmeans_centroid and the sums of the last pass in its
-- #sqlkmeans_moved: #sqlkmeans_point has the centroids, in their own units too, #sqlkmeans_cluster the
-- segment id and the figures of each, #sqlkmeans_scored every row's label, and what describe_scored
-- leaves is of them.
ALTER PROCEDURE sqlkmeans.train_labels
    @run_id          bigint,
    @active          bigint,
    @last_segment_id int,
    @definition      nvarchar(max),
    @k               int,
    @features        int,
    @total_ss        float OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @key nvarchar(max) = JSON_QUERY(@definition, '$.key');
    DECLARE @sample nvarchar(max) = N'SELECT TOP (8000) n.cluster AS [sqlkmeans cluster]'
        + sqlkmeans.each_number(@features, N', r.[sqlkmeans o{}]', N'') + N'
FROM #sqlkmeans_sample AS r
' + sqlkmeans.nearest(@k, @features);
    DECLARE @relation nvarchar(max) = N'#sqlkmeans_moved';
    DECLARE @rows bigint;
    DECLARE @statement nvarchar(max);
    DECLARE @problem nvarchar(max);

    -- The last pass has the squares about the mean where every row weighs the same.
    IF EXISTS (SELECT 1 FROM OPENJSON(@definition) WITH (sample_weight nvarchar(max) '$.sample_weight') AS j
               WHERE j.sample_weight IS NOT NULL)
        SET @relation = N'(SELECT 1e0 AS weight, ' + sqlkmeans.each_number(@features,
                N'(r.[sqlkmeans z{}] - o.z{}) * (r.[sqlkmeans z{}] - o.z{})', N' + ') + N' AS squares, '
            + sqlkmeans.each_number(@features, N'r.[sqlkmeans z{}] - o.z{} AS z{}', N', ') + N'
      FROM #sqlkmeans_prepared AS r
      INNER JOIN #sqlkmeans_centroid AS o ON o.cluster = 0)';
    SET @statement = N'SELECT @total_ss = SUM(m.squares) - ('
        + sqlkmeans.each_number(@features, N'SUM(m.z{}) * SUM(m.z{})', N' + ') + N') / SUM(m.weight)
FROM ' + @relation + N' AS m;
INSERT INTO #sqlkmeans_point (cluster, position, scaled_value, value)
SELECT c.cluster, v.position, v.value, 0e0
FROM #sqlkmeans_centroid AS c
CROSS APPLY (VALUES ' + sqlkmeans.each_number(@features, N'({}, c.z{})', N', ') + N') AS v (position, value)
WHERE c.cluster > 0;';
    EXECUTE sys.sp_executesql @statement, N'@total_ss float OUTPUT', @total_ss = @total_ss OUTPUT;
    -- exp(x) - 1 to the last digits near 0 (Kahan; Higham, Accuracy and Stability, 2002, 1.14.1).
    UPDATE p
    SET value = CASE WHEN f.transform <> N'log1p' THEN t.value
                     WHEN EXP(t.value) = 1e0 THEN t.value
                     WHEN EXP(t.value) - 1e0 = -1e0 THEN -1e0
                     ELSE (EXP(t.value) - 1e0) * (t.value / LOG(EXP(t.value))) END
    FROM #sqlkmeans_point AS p
    INNER JOIN sqlkmeans.model_feature AS f ON f.run_id = @run_id AND f.position = p.position
    CROSS APPLY (SELECT p.scaled_value * (f.scale / f.weight) + f.center AS value) AS t;

    INSERT INTO #sqlkmeans_cluster (cluster, size, within_ss, inertia, weight, distance)
    SELECT m.cluster, SUM(m.customers), 0e0, 0e0, 0e0, 0e0 FROM #sqlkmeans_moved AS m GROUP BY m.cluster;
    -- A cluster has the segment id of the earlier segment that it shares most customers with, as long as
    -- they are more than half of the smaller of the two, the largest pair first; then, among what is left,
    -- of that whose centroid and its own are each the other's nearest of all; what is left then is new.
    WHILE 1 = 1
    BEGIN
        UPDATE c
        SET segment_id = h.segment_id
        FROM #sqlkmeans_cluster AS c
        INNER JOIN (
            SELECT TOP (1) s.segment_id, s.cluster
            FROM (SELECT o.previous AS segment_id, o.cluster, SUM(o.customers) AS customers,
                      SUM(SUM(o.customers)) OVER (PARTITION BY o.previous) AS earlier,
                      SUM(SUM(o.customers)) OVER (PARTITION BY o.cluster) AS present
                  FROM #sqlkmeans_moved AS o
                  WHERE o.previous IN (SELECT e.segment_id FROM sqlkmeans.centroid AS e WHERE e.run_id = @active)
                  GROUP BY o.previous, o.cluster) AS s
            WHERE (2 * s.customers > s.earlier OR 2 * s.customers > s.present)
              AND NOT EXISTS (SELECT 1 FROM #sqlkmeans_cluster AS a
                              WHERE a.segment_id = s.segment_id
                                 OR (a.cluster = s.cluster AND a.segment_id IS NOT NULL))
            ORDER BY s.customers DESC, s.segment_id, s.cluster) AS h
            ON h.cluster = c.cluster;
        IF @@ROWCOUNT = 0
            BREAK;
    END;

    CREATE TABLE #sqlkmeans_apart (segment_id int NOT NULL, cluster int NOT NULL, squared float NOT NULL);
    -- The earlier centroids in the new scaled space, where the columns are the same. A level that
    -- had no feature has the share 0.
    IF NOT EXISTS (
        SELECT 1
        FROM (SELECT DISTINCT f.source_column, f.type FROM sqlkmeans.model_feature AS f
              WHERE f.run_id = @run_id) AS n
        FULL JOIN (SELECT DISTINCT f.source_column, f.type FROM sqlkmeans.model_feature AS f
                   WHERE f.run_id = @active) AS o
            ON o.source_column = n.source_column AND o.type = n.type
        WHERE n.type IS NULL OR o.type IS NULL)
    BEGIN
        INSERT INTO #sqlkmeans_apart (segment_id, cluster, squared)
        SELECT g.segment_id, g.cluster, SUM(g.difference * g.difference)
        FROM (SELECT e.segment_id, p.cluster, p.scaled_value - (
                  sqlkmeans.prepared_value(COALESCE(c.value, 0e0), NULL, NULL, f.transform) - f.center)
                  * f.weight / f.scale AS difference
              FROM (SELECT DISTINCT x.segment_id FROM sqlkmeans.centroid AS x
                    WHERE x.run_id = @active) AS e
              INNER JOIN sqlkmeans.model_feature AS f ON f.run_id = @run_id
              INNER JOIN #sqlkmeans_point AS p ON p.position = f.position
              LEFT JOIN sqlkmeans.centroid AS c
                  ON c.run_id = @active AND c.segment_id = e.segment_id
                 AND (c.feature + N'.') COLLATE Latin1_General_100_BIN2 = f.feature + N'.') AS g
        GROUP BY g.segment_id, g.cluster
        -- A column that has a logarithm now may have had a centre that has none.
        HAVING COUNT(g.difference) = COUNT(*);

        -- Of two as near, the first: an id is for one cluster, and an UPDATE takes one of them.
        UPDATE c
        SET segment_id = a.segment_id
        FROM #sqlkmeans_cluster AS c
        INNER JOIN (SELECT d.cluster, d.segment_id,
                        ROW_NUMBER() OVER (PARTITION BY d.cluster ORDER BY d.squared, d.segment_id) AS of_cluster,
                        ROW_NUMBER() OVER (PARTITION BY d.segment_id ORDER BY d.squared, d.cluster) AS of_segment
                    FROM #sqlkmeans_apart AS d) AS a
            ON a.cluster = c.cluster AND a.of_cluster = 1 AND a.of_segment = 1
        WHERE c.segment_id IS NULL
          AND NOT EXISTS (SELECT 1 FROM #sqlkmeans_cluster AS t WHERE t.segment_id = a.segment_id);
    END;

    -- Largest first.
    UPDATE c
    SET segment_id = @last_segment_id + n.place
    FROM #sqlkmeans_cluster AS c
    INNER JOIN (SELECT r.cluster, ROW_NUMBER() OVER (ORDER BY r.size DESC, r.cluster) AS place
                FROM #sqlkmeans_cluster AS r
                WHERE r.segment_id IS NULL) AS n
        ON n.cluster = c.cluster;

    UPDATE c
    SET centroid_shift = SQRT(a.squared)
    FROM #sqlkmeans_cluster AS c
    INNER JOIN #sqlkmeans_apart AS a ON a.cluster = c.cluster AND a.segment_id = c.segment_id;
    -- In the order of their segment ids.
    UPDATE p
    SET cluster = n.place
    FROM #sqlkmeans_point AS p
    INNER JOIN (SELECT c.cluster, ROW_NUMBER() OVER (ORDER BY c.segment_id) AS place
                FROM #sqlkmeans_cluster AS c) AS n
        ON n.cluster = p.cluster;
    UPDATE c
    SET cluster = (SELECT COUNT(*) FROM #sqlkmeans_cluster AS o WHERE o.segment_id <= c.segment_id)
    FROM #sqlkmeans_cluster AS c;

    EXECUTE sqlkmeans.score_rows @key = @key, @k = @k, @features = @features, @rows = @rows OUTPUT;
    EXECUTE sqlkmeans.describe_scored
        @run_id = @run_id, @active = @active, @features = @features, @medians = 1,
        @sample = @sample;
    IF @k > (SELECT COUNT(*) FROM #sqlkmeans_cluster AS c WHERE c.size > 0)
    BEGIN
        SET @problem = N'k = ' + CAST(@k AS nvarchar(10))
            + N': a segment stays empty; lower k or add features';
        EXECUTE sqlkmeans.raise_problems @number = 50003, @problems = @problem;
    END;
END;
GO

-- procedures/train_name_words.sql
IF OBJECT_ID(N'sqlkmeans.train_name_words', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_name_words AS RETURN 0;');
GO
-- Gives a segment a name, by the caller's #sqlkmeans_word: the first of those it could have, short ones
-- first, that no row of #sqlkmeans_named has; else the last.
ALTER PROCEDURE sqlkmeans.train_name_words
    @segment_id int,
    @notable    int,
    @name       nvarchar(400) OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @least float = sqlkmeans.shared_number(N'notable');
    DECLARE @other int;
    DECLARE @count int;
    DECLARE @place int = 0;

    CREATE TABLE #sqlkmeans_alike (place int NOT NULL PRIMARY KEY, segment_id int NOT NULL);
    CREATE TABLE #sqlkmeans_chosen (place int NOT NULL PRIMARY KEY, position int NOT NULL);
    CREATE TABLE #sqlkmeans_possible_name
    (
        place int           IDENTITY (1, 1) NOT NULL PRIMARY KEY,
        name  nvarchar(400) COLLATE DATABASE_DEFAULT NOT NULL
    );
    INSERT INTO #sqlkmeans_alike (place, segment_id)
    SELECT ROW_NUMBER() OVER (ORDER BY d.apart, c.size DESC, c.segment_id), c.segment_id
    FROM #sqlkmeans_cluster AS c
    INNER JOIN (
        SELECT o.segment_id,
            ROUND(SUM((a.importance - o.importance) * (a.importance - o.importance)), 9) AS apart
        FROM #sqlkmeans_word AS a
        INNER JOIN #sqlkmeans_word AS o ON o.position = a.position
        WHERE a.segment_id = @segment_id AND o.segment_id > 0 AND o.segment_id <> @segment_id
        GROUP BY o.segment_id
    ) AS d ON d.segment_id = c.segment_id;
    SELECT @other = k.segment_id FROM #sqlkmeans_alike AS k WHERE k.place = 1;

    -- What sets it apart from everyone and from the segment that is most like it.
    INSERT INTO #sqlkmeans_chosen (place, position)
    SELECT r.place, r.position
    FROM (SELECT n.position, ROW_NUMBER() OVER (ORDER BY n.strength DESC, n.is_low, n.position) AS place
          FROM (SELECT a.position, a.is_low, a.importance, s.strength,
                    ROW_NUMBER() OVER (PARTITION BY a.[column]
                                       ORDER BY s.strength DESC, a.is_low, a.position) AS n
                FROM #sqlkmeans_word AS a
                LEFT JOIN #sqlkmeans_word AS o ON o.segment_id = @other AND o.position = a.position
                CROSS APPLY (SELECT ROUND(ABS(a.importance)
                    + COALESCE(ABS(a.importance - o.importance), 0e0), 9) AS strength) AS s
                WHERE a.segment_id = @segment_id) AS n
          WHERE n.n = 1 AND ABS(n.importance) >= @least) AS r
    WHERE r.place <= 2;
    SELECT @count = COUNT(*) FROM #sqlkmeans_chosen AS h;

    -- A word more for each segment that these do not tell it from.
    WHILE @count BETWEEN 1 AND 3 AND EXISTS (SELECT 1 FROM #sqlkmeans_alike AS k WHERE k.place > @place)
    BEGIN
        SET @place = @place + 1;
        SELECT @other = k.segment_id FROM #sqlkmeans_alike AS k WHERE k.place = @place;
        IF NOT EXISTS (SELECT 1
                       FROM #sqlkmeans_chosen AS h
                       INNER JOIN #sqlkmeans_word AS a
                           ON a.segment_id = @segment_id AND a.position = h.position
                       INNER JOIN #sqlkmeans_word AS o
                           ON o.segment_id = @other AND o.position = h.position
                       WHERE a.grade <> o.grade AND ROUND(ABS(a.importance - o.importance), 9) >= @least)
            INSERT INTO #sqlkmeans_chosen (place, position)
            SELECT TOP (1) @count + 1, n.position
            FROM (SELECT a.position, a.[column], a.is_low, a.grade, a.is_level, g.gap,
                      o.grade AS other_grade,
                      ROW_NUMBER() OVER (PARTITION BY a.[column]
                                         ORDER BY g.gap DESC, a.is_low, a.position) AS n
                  FROM #sqlkmeans_word AS a
                  INNER JOIN #sqlkmeans_word AS o ON o.segment_id = @other AND o.position = a.position
                  CROSS APPLY (SELECT ROUND(ABS(a.importance - o.importance), 9) AS gap) AS g
                  WHERE a.segment_id = @segment_id) AS n
            WHERE n.n = 1 AND n.grade <> n.other_grade AND n.gap >= @least
              -- Of a level that is as frequent as in everyone there is nothing to say.
              AND (n.grade <> 0 OR n.is_level = 0)
              AND NOT EXISTS (SELECT 1
                              FROM #sqlkmeans_chosen AS h
                              INNER JOIN #sqlkmeans_word AS w
                                  ON w.segment_id = @segment_id AND w.position = h.position
                              WHERE w.[column] = n.[column])
            ORDER BY n.gap DESC, n.is_low, n.position;
        SELECT @count = COUNT(*) FROM #sqlkmeans_chosen AS h;
    END;

    -- These words, and whatever else is notable, one after the other.
    INSERT INTO #sqlkmeans_chosen (place, position)
    SELECT @count + ROW_NUMBER() OVER (ORDER BY w.place), w.position
    FROM #sqlkmeans_word AS w
    WHERE w.segment_id = @segment_id AND w.place <= @notable
      AND NOT EXISTS (SELECT 1
                      FROM #sqlkmeans_chosen AS h
                      INNER JOIN #sqlkmeans_word AS c
                          ON c.segment_id = @segment_id AND c.position = h.position
                      WHERE c.[column] = w.[column]);
    INSERT INTO #sqlkmeans_possible_name (name)
    SELECT LEFT(COALESCE(NULLIF(sqlkmeans.joined((
        SELECT N', ' + w.word
        FROM #sqlkmeans_chosen AS h
        INNER JOIN #sqlkmeans_word AS w ON w.segment_id = @segment_id AND w.position = h.position
        WHERE h.place <= n.place
        ORDER BY h.place
        FOR XML PATH('')), N', '), N''), N'average'), 390)
    FROM (SELECT @count AS place UNION SELECT h.place FROM #sqlkmeans_chosen AS h WHERE h.place > @count) AS n
    ORDER BY n.place;

    -- What no other segment has as much or as little of.
    INSERT INTO #sqlkmeans_possible_name (name)
    SELECT LEFT(m.most + sqlkmeans.joined((
        SELECT N', ' + w.word
        FROM #sqlkmeans_chosen AS h
        INNER JOIN #sqlkmeans_word AS w ON w.segment_id = @segment_id AND w.position = h.position
        WHERE h.place <= @count AND h.position <> m.position
        ORDER BY h.place
        FOR XML PATH('')), N''), 390)
    FROM #sqlkmeans_word AS m
    WHERE m.segment_id = @segment_id AND m.place IS NOT NULL AND m.most IS NOT NULL
    ORDER BY m.place;

    INSERT INTO #sqlkmeans_possible_name (name)
    SELECT LEFT(sqlkmeans.joined((
        SELECT N', ' + w.mean
        FROM #sqlkmeans_word AS w
        WHERE w.segment_id = @segment_id AND w.place <= 2
        ORDER BY w.place
        FOR XML PATH('')), N', '), 390);

    SELECT TOP (1) @name = c.name
    FROM #sqlkmeans_possible_name AS c
    CROSS APPLY (SELECT CASE WHEN EXISTS (SELECT 1 FROM #sqlkmeans_named AS n WHERE n.name = c.name)
                             THEN 1 ELSE 0 END AS taken) AS t
    ORDER BY t.taken, CASE t.taken WHEN 1 THEN -c.place ELSE c.place END;
END;
GO

-- procedures/train_names.sql
IF OBJECT_ID(N'sqlkmeans.train_names', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_names AS RETURN 0;');
GO
-- Fills the caller's #sqlkmeans_named from its #sqlkmeans_cluster and #sqlkmeans_profile: a name and a
-- sentence for everyone and each segment, as sqlkmeans/clustering/describing/naming.py makes them. A
-- name has the two features that set a segment apart most, from everyone and from the segment that is
-- most like it, and then a word more for each segment that it would not be told from. A name that a
-- segment has already stays.
ALTER PROCEDURE sqlkmeans.train_names
    @run_id       bigint,
    @active       bigint,
    @segmentation nvarchar(128)
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @segment_id int;
    DECLARE @name nvarchar(400);
    DECLARE @description nvarchar(max);
    DECLARE @definition nvarchar(max);
    DECLARE @part nvarchar(1000);
    DECLARE @notable int;
    DECLARE @number int;
    DECLARE @least float = sqlkmeans.shared_number(N'notable');
    DECLARE @strong float = sqlkmeans.shared_number(N'strong');

    -- What a feature is in a segment, in words. Grades go from -2, very low, to 2, very high; places
    -- are those of the features that set a segment apart from everyone, one of each column.
    CREATE TABLE #sqlkmeans_word
    (
        segment_id  int            NOT NULL,
        position    int            NOT NULL,
        [column]    nvarchar(128)  COLLATE DATABASE_DEFAULT NOT NULL,
        place       int            NULL,
        importance  float          NOT NULL,
        is_low      int            NOT NULL,
        grade       int            NOT NULL,
        is_category int            NOT NULL,
        is_level    int            NOT NULL,
        word        nvarchar(400)  COLLATE DATABASE_DEFAULT NOT NULL,
        most        nvarchar(400)  COLLATE DATABASE_DEFAULT NULL,
        mean        nvarchar(1000) COLLATE DATABASE_DEFAULT NOT NULL,
        of_all      nvarchar(100)  COLLATE DATABASE_DEFAULT NOT NULL,
        PRIMARY KEY (segment_id, position)
    );
    SELECT @definition = r.definition FROM sqlkmeans.run AS r WHERE r.run_id = @run_id;
    INSERT INTO #sqlkmeans_word
        (segment_id, position, [column], place, importance, is_low, grade, is_category, is_level, word,
         mean, of_all)
    SELECT b.segment_id, b.position, b.source_column,
        CASE WHEN b.n = 1 THEN SUM(CASE b.n WHEN 1 THEN 1 ELSE 0 END) OVER (
            PARTITION BY b.segment_id
            ORDER BY CASE b.segment_id WHEN 0 THEN 0e0 ELSE b.strength END DESC, b.is_low, b.position
            ROWS UNBOUNDED PRECEDING) END,
        b.importance, b.is_low, b.grade, b.is_category, b.is_level,
        CASE WHEN b.is_level = 1 AND b.is_more = 1 AND b.share >= 0.95e0 THEN b.plain + N': ' + b.shown
        WHEN b.is_level = 1
            THEN b.plain + CASE WHEN b.is_more = 1 AND b.share >= 0.5e0 THEN N' mostly '
                                WHEN b.is_more = 1 THEN N' more often '
                                WHEN b.share < 0.05e0 THEN N' hardly ever '
                                ELSE N' less often ' END + b.shown
        WHEN b.type = N'date' THEN b.plain + b.ago
        WHEN b.grade = 0 THEN N'medium ' + b.plain
        WHEN LOWER(b.plain) = N'age' OR LOWER(b.plain) LIKE N'age %'
            THEN CASE WHEN ABS(b.grade) = 2 THEN N'much ' ELSE N'' END
                + CASE b.is_low WHEN 1 THEN N'younger' ELSE N'older' END
        WHEN LOWER(b.plain) = N'recency' OR LOWER(b.plain) LIKE N'recency %'
            THEN CASE b.grade WHEN -2 THEN N'very recent' WHEN -1 THEN N'recent' WHEN 1 THEN N'lapsed'
                              ELSE N'long lapsed' END
        ELSE CASE WHEN ABS(b.grade) = 2 THEN N'very ' ELSE N'' END
                + CASE b.is_low WHEN 1 THEN N'low ' ELSE N'high ' END + b.plain END,
        CASE b.type
            WHEN N'category' THEN b.source_column + N' is ' + b.shown + N' for '
                + COALESCE(CAST(CAST(ROUND(100 * b.mean, 0) AS int) AS nvarchar(10)) + N' %', N'unknown')
            WHEN N'date' THEN b.source_column + b.ago
            ELSE b.source_column + N' ' + sqlkmeans.number_text(b.mean) + COALESCE(N' ' + b.unit, N'')
            END,
        CASE b.type
            WHEN N'category' THEN COALESCE(
                CAST(CAST(ROUND(100 * b.of_all, 0) AS int) AS nvarchar(10)) + N' %', N'unknown')
            ELSE sqlkmeans.number_text(b.of_all) END
    FROM (SELECT a.*, ROW_NUMBER() OVER (PARTITION BY a.segment_id, a.source_column
                                         ORDER BY a.strength DESC, a.is_low, a.position) AS n,
              CASE a.is_low WHEN 1 THEN -1 ELSE 1 END * (CASE WHEN ABS(a.importance) >= @least THEN 1 ELSE 0 END
                  + CASE WHEN ABS(a.importance) >= @strong THEN 1 ELSE 0 END) AS grade,
              CASE WHEN a.type = N'category' OR a.is_number_of_0_and_1 = 1 THEN 1 ELSE 0 END AS is_level,
              -- A number of 0 and 1 is told by what is more frequent than in everyone.
              CASE WHEN a.is_number_of_0_and_1 = 1 THEN CASE a.is_low WHEN 1 THEN N'no' ELSE N'yes' END
                   WHEN a.is_yes_or_no = 1 THEN CASE a.level WHEN N'1' THEN N'yes' ELSE N'no' END
                   ELSE a.level END AS shown,
              CASE WHEN a.is_number_of_0_and_1 = 1 AND a.is_low = 1 THEN 1e0 - COALESCE(a.mean, 0e0)
                   ELSE COALESCE(a.mean, 0e0) END AS share,
              CASE WHEN a.importance > 0 OR (a.is_number_of_0_and_1 = 1 AND a.is_low = 1) THEN 1
                   ELSE 0 END AS is_more,
              CASE WHEN a.mean < 0 THEN N' in ' + sqlkmeans.number_text(-a.mean) + N' days'
                   ELSE N' ' + sqlkmeans.number_text(a.mean) + N' days ago' END AS ago
          FROM (SELECT COALESCE(c.segment_id, 0) AS segment_id, p.position, f.source_column, f.type,
                    REPLACE(f.source_column, N'_', N' ') AS plain,
                    COALESCE(f.level, N'other') AS level, u.unit COLLATE DATABASE_DEFAULT AS unit, p.mean, e.mean AS of_all, d.importance,
                    -- Of everyone, a category's most frequent level.
                    CASE WHEN p.cluster > 0 THEN ROUND(ABS(d.importance), 9)
                         WHEN f.type = N'category' THEN p.mean ELSE 0e0 END AS strength,
                    CASE WHEN d.importance < 0 THEN 1 ELSE 0 END AS is_low,
                    CASE f.type WHEN N'category' THEN 1 ELSE 0 END AS is_category,
                    CASE WHEN f.type = N'category' AND NOT EXISTS (
                             SELECT 1 FROM sqlkmeans.model_feature AS g
                             WHERE g.run_id = @run_id AND g.source_column = f.source_column
                               AND (g.level IS NULL OR g.level NOT IN (N'0', N'1')))
                         THEN 1 ELSE 0 END AS is_yes_or_no,
                    CASE WHEN f.type = N'number' AND e.lowest = 0e0 AND e.highest = 1e0
                          AND ABS(e.deviation * e.deviation - e.mean * (1e0 - e.mean)) < 1e-9
                         THEN 1 ELSE 0 END AS is_number_of_0_and_1
                FROM #sqlkmeans_profile AS p
                LEFT JOIN #sqlkmeans_cluster AS c ON c.cluster = p.cluster
                INNER JOIN #sqlkmeans_profile AS e ON e.cluster = 0 AND e.position = p.position
                INNER JOIN sqlkmeans.model_feature AS f
                    ON f.run_id = @run_id AND f.position = p.position
                LEFT JOIN OPENJSON(@definition, '$.features') WITH (
                    [column] nvarchar(128) '$.column', unit nvarchar(20) '$.unit') AS u
                    ON u.[column] COLLATE DATABASE_DEFAULT = f.source_column
                CROSS APPLY (SELECT CASE WHEN p.cluster = 0 OR e.deviation = 0 THEN 0e0
                        ELSE COALESCE((p.mean - e.mean) / e.deviation, 0e0) END AS importance) AS d
               ) AS a) AS b;
    UPDATE w
    SET most = CASE WHEN w.importance > o.highest THEN N'highest ' WHEN w.importance < o.lowest THEN N'lowest ' END
        + REPLACE(w.[column], N'_', N' ')
    FROM #sqlkmeans_word AS w
    INNER JOIN sqlkmeans.model_feature AS f ON f.run_id = @run_id AND f.position = w.position
    CROSS APPLY (SELECT MAX(a.importance) AS highest, MIN(a.importance) AS lowest
                 FROM #sqlkmeans_word AS a
                 WHERE a.position = w.position AND a.segment_id > 0 AND a.segment_id <> w.segment_id) AS o
    WHERE w.segment_id > 0 AND w.is_level = 0 AND f.type = N'number';
    INSERT INTO #sqlkmeans_named (segment_id, name, name_source, description)
    SELECT c.segment_id, COALESCE(MAX(g.name), MAX(k.name), N''),
        CASE WHEN MAX(g.name) IS NULL THEN N'generated' ELSE N'given' END, N''
    FROM #sqlkmeans_cluster AS c
    LEFT JOIN (SELECT s.segment_id, MAX(s.name) AS name
               FROM sqlkmeans.segment AS s
               INNER JOIN sqlkmeans.run AS r ON r.run_id = s.run_id
               WHERE r.segmentation = @segmentation AND s.name_source = N'given'
               GROUP BY s.segment_id) AS g
        ON g.segment_id = c.segment_id
    LEFT JOIN sqlkmeans.segment AS k ON k.run_id = @active AND k.segment_id = c.segment_id
    GROUP BY c.segment_id;

    WHILE EXISTS (SELECT 1 FROM #sqlkmeans_named AS n WHERE n.description = N'')
    BEGIN
        -- Largest first, as the ids of a first run.
        SELECT TOP (1) @segment_id = n.segment_id, @name = n.name
        FROM #sqlkmeans_named AS n
        INNER JOIN #sqlkmeans_cluster AS c ON c.segment_id = n.segment_id
        WHERE n.description = N''
        ORDER BY c.size DESC, c.segment_id;
        SELECT @notable = COUNT(*)
        FROM #sqlkmeans_word AS w
        WHERE w.segment_id = @segment_id AND w.place IS NOT NULL AND ABS(w.importance) >= @least;

        IF @name = N''
            EXECUTE sqlkmeans.train_name_words
                @segment_id = @segment_id, @notable = @notable, @name = @name OUTPUT;
        SELECT @part = @name, @number = 1;
        WHILE EXISTS (SELECT 1 FROM #sqlkmeans_named AS n
                      WHERE n.name = @name AND n.segment_id <> @segment_id)
        BEGIN
            SET @number = @number + 1;
            SET @name = @part + N' (' + CAST(@number AS nvarchar(10)) + N')';
        END;

        SET @description = CASE @notable WHEN 0 THEN N'Near everyone''s average in every feature.'
            ELSE sqlkmeans.joined((
                SELECT N'; ' + w.mean + N' against ' + w.of_all
                FROM #sqlkmeans_word AS w
                WHERE w.segment_id = @segment_id AND w.place <= 3 AND w.place <= @notable
                ORDER BY w.place
                FOR XML PATH('')), N'; ')
            + CASE WHEN EXISTS (SELECT 1 FROM #sqlkmeans_word AS w
                                WHERE w.segment_id = @segment_id AND w.place <= 3 AND w.place <= @notable
                                  AND w.is_category = 0)
                   THEN N' on average.' ELSE N'.' END END;
        UPDATE #sqlkmeans_named SET name = @name, description = @description WHERE segment_id = @segment_id;
    END;

    INSERT INTO #sqlkmeans_named (segment_id, name, name_source, description)
    SELECT 0, N'everyone', N'generated', N'All ' + sqlkmeans.number_text(SUM(c.size))
        + N' customers; on average ' + sqlkmeans.joined((
            SELECT N', ' + w.mean
            FROM #sqlkmeans_word AS w
            WHERE w.segment_id = 0 AND w.place IS NOT NULL
            ORDER BY w.place
            FOR XML PATH('')), N', ') + N'.'
    FROM #sqlkmeans_cluster AS c;
END;
GO

-- procedures/train_bins.sql
IF OBJECT_ID(N'sqlkmeans.train_bins', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_bins AS RETURN 0;');
GO
-- Cuts each number of the caller's #sqlkmeans_column into ten bins of equal size, by its #sqlkmeans_sample,
-- and a category into its levels: the run's rows of feature_bin, without their counts.
ALTER PROCEDURE sqlkmeans.train_bins
    @run_id bigint
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @statement nvarchar(max);

    CREATE TABLE #sqlkmeans_decile
    (
        feature  int   NOT NULL,
        value    float NOT NULL,
        least    float NOT NULL,
        greatest float NOT NULL
    );
    -- Behind what is missing and the levels, what a later run has and this one has not, where it is no
    -- level itself.
    INSERT INTO sqlkmeans.feature_bin (run_id, position, bin, feature, label, upper, customers)
    SELECT @run_id, c.number, ROW_NUMBER() OVER (PARTITION BY c.number ORDER BY l.position) - 1, c.name,
        l.label, NULL, 0
    FROM #sqlkmeans_column AS c
    INNER JOIN (SELECT a.name, 0 AS position, N'missing' AS label FROM #sqlkmeans_column AS a
                UNION ALL
                SELECT f.source_column, f.position, COALESCE(f.level, N'(other)')
                FROM sqlkmeans.model_feature AS f
                WHERE f.run_id = @run_id AND f.type = N'category'
                UNION ALL
                SELECT f.source_column, MAX(f.position) + 1, N'(other)'
                FROM sqlkmeans.model_feature AS f
                WHERE f.run_id = @run_id AND f.type = N'category'
                GROUP BY f.source_column
                HAVING COUNT(f.level) = COUNT(*)) AS l
        ON l.name = c.name;
    SELECT @statement = N'INSERT INTO #sqlkmeans_decile (feature, value, least, greatest)
SELECT n.feature, p.value, n.least, n.greatest
FROM (SELECT v.feature, MIN(v.value) AS least, MAX(v.value) AS greatest, COUNT_BIG(v.value) AS customers' + r.rows_of + N'
      GROUP BY v.feature) AS n
CROSS JOIN (VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9)) AS d (number)
INNER JOIN (SELECT v.feature, v.value,
                ROW_NUMBER() OVER (PARTITION BY v.feature ORDER BY v.value) - 1 AS place' + r.rows_of + N'
            WHERE v.value IS NOT NULL) AS p
    ON p.feature = n.feature AND p.place = d.number * (n.customers - 1) / 10
WHERE n.greatest > n.least;'
    FROM (SELECT N'
            FROM #sqlkmeans_sample AS s
            CROSS APPLY (VALUES ' + sqlkmeans.each_number(MAX(f.position), N'({}, s.[sqlkmeans o{}])', N', ')
              + N') AS v (feature, value)' AS rows_of
          FROM sqlkmeans.model_feature AS f
          WHERE f.run_id = @run_id) AS r;
    EXECUTE sys.sp_executesql @statement;
    -- To three digits of the range; only those that part the rows.
    INSERT INTO sqlkmeans.feature_bin (run_id, position, bin, feature, label, upper, customers)
    SELECT @run_id, e.position, e.bin, e.name, CASE
            WHEN e.lower IS NULL AND e.upper IS NULL THEN N'known'
            WHEN e.lower IS NULL THEN N'<= ' + sqlkmeans.number_text(e.upper) + e.unit
            WHEN e.upper IS NULL THEN N'> ' + sqlkmeans.number_text(e.lower) + e.unit
            ELSE sqlkmeans.number_text(e.lower) + N' to ' + sqlkmeans.number_text(e.upper) + e.unit END,
        e.upper, 0
    FROM (SELECT c.number AS position, c.name, d.upper,
              CASE c.type WHEN N'date' THEN N' days' ELSE N'' END AS unit,
              ROW_NUMBER() OVER (PARTITION BY c.number ORDER BY COALESCE(d.upper, 1.7e308)) AS bin,
              LAG(d.upper) OVER (PARTITION BY c.number ORDER BY COALESCE(d.upper, 1.7e308)) AS lower
          FROM #sqlkmeans_column AS c
          INNER JOIN sqlkmeans.model_feature AS f
              ON f.run_id = @run_id AND f.source_column = c.name AND f.type <> N'category'
          INNER JOIN (SELECT DISTINCT a.feature, r.upper
                      FROM #sqlkmeans_decile AS a
                      CROSS APPLY (SELECT ROUND(a.value,
                          2 - CAST(FLOOR(LOG10(a.greatest - a.least)) AS int)) AS upper) AS r
                      WHERE r.upper < a.greatest
                      UNION ALL
                      SELECT b.position, NULL FROM sqlkmeans.model_feature AS b WHERE b.run_id = @run_id) AS d
              ON d.feature = f.position) AS e;
END;
GO

-- procedures/train_compare.sql
IF OBJECT_ID(N'sqlkmeans.train_compare', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_compare AS RETURN 0;');
GO
-- Compares a run with the model that is published: fills the caller's #sqlkmeans_drift, and says in @warnings,
-- a line each, what is beyond a threshold of the guard. Raises these where the guard refuses.
ALTER PROCEDURE sqlkmeans.train_compare
    @run_id     bigint,
    @active     bigint,
    @definition nvarchar(max),
    @rows       bigint,
    @warnings   nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @run nvarchar(20) = CAST(@active AS nvarchar(20));
    DECLARE @allowed_moved float =
        COALESCE(TRY_CAST(JSON_VALUE(@definition, '$.guard.moved') AS float),
            sqlkmeans.shared_number(N'guard.moved'));
    DECLARE @allowed_shift float =
        COALESCE(TRY_CAST(JSON_VALUE(@definition, '$.guard.centroid_shift') AS float),
            sqlkmeans.shared_number(N'guard.centroid_shift'));
    DECLARE @min_frequency float = sqlkmeans.shared_number(N'min_frequency');
    DECLARE @max_categories int = sqlkmeans.shared_number(N'max_categories');
    DECLARE @then nvarchar(max);
    DECLARE @k int;
    DECLARE @changed nvarchar(max);
    DECLARE @differing bit;
    DECLARE @stayed float;
    DECLARE @moved float;

    -- With other features or another k, customers have to move. What a definition says counts, not
    -- the levels that a category has, nor their order.
    SELECT @then = r.definition, @k = r.k FROM sqlkmeans.run AS r WHERE r.run_id = @active;
    SET @changed = CASE WHEN EXISTS (
            SELECT 1
            FROM (VALUES (@definition), (@then)) AS d (definition)
            CROSS APPLY OPENJSON(d.definition, '$.features') AS j
            GROUP BY j.[key], (JSON_VALUE(j.[value], '$.column') + N'.') COLLATE Latin1_General_100_BIN2,
                COALESCE(JSON_VALUE(j.[value], '$.type'), N'number'),
                COALESCE(JSON_VALUE(j.[value], '$.transform'), N'none'),
                COALESCE(CAST(JSON_VALUE(j.[value], '$.weight') AS float), 1),
                CAST(JSON_VALUE(j.[value], '$.winsorize[0]') AS float),
                CAST(JSON_VALUE(j.[value], '$.winsorize[1]') AS float),
                COALESCE(CAST(JSON_VALUE(j.[value], '$.min_frequency') AS float), @min_frequency),
                COALESCE(CAST(JSON_VALUE(j.[value], '$.max_categories') AS int), @max_categories)
            HAVING COUNT(*) <> 2) THEN N' and features' ELSE N'' END
        + sqlkmeans.joined((
            SELECT N' and ' + v.name
            FROM (VALUES (@definition), (@then)) AS d (definition)
            CROSS APPLY (VALUES
                (1, N'scaling', JSON_VALUE(d.definition, '$.scaling')),
                (2, N'missing', JSON_VALUE(d.definition, '$.missing')),
                (3, N'winsorize', sqlkmeans.float_literal(CAST(JSON_VALUE(d.definition, '$.winsorize[0]') AS float))
                    + sqlkmeans.float_literal(CAST(JSON_VALUE(d.definition, '$.winsorize[1]') AS float))),
                (4, N'sample_weight', JSON_VALUE(d.definition, '$.sample_weight') + N'.')
            ) AS v (place, name, value)
            GROUP BY v.place, v.name
            HAVING COUNT(v.value) = 1 OR COUNT(DISTINCT v.value COLLATE Latin1_General_100_BIN2) = 2
            ORDER BY v.place
            FOR XML PATH('')), N'')
        + CASE WHEN @k <> (SELECT COUNT(*) FROM #sqlkmeans_cluster AS c) THEN N' and k' ELSE N'' END;
    SELECT @warnings = N'', @differing = CASE @changed WHEN N'' THEN 0 ELSE 1 END;
    IF @differing = 0
    BEGIN
        SELECT @stayed = SUM(CASE WHEN o.previous = c.segment_id THEN o.customers ELSE 0 END),
            @moved = SUM(CASE WHEN o.previous <> c.segment_id THEN o.customers ELSE 0 END)
        FROM #sqlkmeans_overlap AS o
        INNER JOIN #sqlkmeans_cluster AS c ON c.cluster = o.cluster
        WHERE o.previous > 0;
        IF @moved / NULLIF(@moved + @stayed, 0) > @allowed_moved
            SET @warnings = N'moved: ' + CAST(CAST(@moved AS bigint) AS nvarchar(20)) + N' of '
                + CAST(CAST(@moved + @stayed AS bigint) AS nvarchar(20))
                + N' customers changed segment (allowed ' + CAST(@allowed_moved AS nvarchar(40))
                + N')' + @line;
        SET @warnings = @warnings + sqlkmeans.joined((
            SELECT N'segment ' + CAST(c.segment_id AS nvarchar(10)) + N': its centroid moved by '
                + sqlkmeans.number_text(ROUND(c.centroid_shift, 2)) + N' since run ' + @run + N' (allowed '
                + CAST(@allowed_shift AS nvarchar(40)) + N', in the scaled space)' + @line
            FROM #sqlkmeans_cluster AS c
            WHERE c.centroid_shift > @allowed_shift
            ORDER BY c.segment_id
            FOR XML PATH('')), N'');
    END;

    EXECUTE sqlkmeans.count_bins @run_id = @active, @scored_run_id = @run_id;
    UPDATE b
    SET customers = b.customers + k.skipped
    FROM #sqlkmeans_bin AS b
    INNER JOIN sqlkmeans.feature_bin AS f
        ON f.run_id = @active AND f.position = b.position AND f.bin = b.bin
    INNER JOIN #sqlkmeans_column AS k ON k.name = f.feature
    WHERE b.bin = 0;
    EXECUTE sqlkmeans.watch_labels
        @model_run_id = @active, @definition = @definition, @rows = @rows,
        @warnings = @warnings OUTPUT, @scored_run_id = @run_id, @differing = @differing;
    IF @differing = 1
        SET @warnings = @warnings + STUFF(@changed, 1, 5, N'') + N' changed since run ' + @run
            + N': moved customers, centroids and distances are not compared with it' + @line;
END;
GO

-- procedures/train_segmentation.sql
IF OBJECT_ID(N'sqlkmeans.train_segmentation', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.train_segmentation AS RETURN 0;');
GO
-- Trains on the rows of the caller's #sqlkmeans_input in T-SQL alone, labels and describes them in the
-- tables of label_rows, and gives the publication. What the run has learnt stands in model_feature,
-- centroid and feature_bin before it is published; a run that fails forgets it.
ALTER PROCEDURE sqlkmeans.train_segmentation
    @run_id      bigint,
    @total       bigint,
    @publication nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @segmentation nvarchar(128);
    DECLARE @definition nvarchar(max);
    DECLARE @active bigint;
    DECLARE @last_segment_id int;
    DECLARE @key nvarchar(max);
    DECLARE @k int;
    DECLARE @features int;
    DECLARE @weighing bigint;
    DECLARE @relation nvarchar(max);
    DECLARE @given nvarchar(max);
    DECLARE @rows bigint;
    DECLARE @threshold float;
    DECLARE @n_iter int;
    DECLARE @total_ss float;
    DECLARE @share float;
    DECLARE @warnings nvarchar(max);
    DECLARE @more nvarchar(max);
    DECLARE @begun datetime2(6) = SYSUTCDATETIME();
    DECLARE @fitted datetime2(6);

    SELECT @segmentation = r.segmentation, @definition = r.definition, @active = g.active_run_id,
        @last_segment_id = g.last_segment_id,
        @key = JSON_QUERY(r.definition, '$.key'), @k = CAST(JSON_VALUE(r.definition, '$.k') AS int),
        @share = TRY_CAST(JSON_VALUE(r.definition, '$.outlier') AS float)
    FROM sqlkmeans.run AS r
    INNER JOIN sqlkmeans.segmentation AS g ON g.name = r.segmentation
    WHERE r.run_id = @run_id;

    CREATE TABLE #sqlkmeans_column
    (
        number     int            NOT NULL PRIMARY KEY,
        x          nvarchar(10)   COLLATE DATABASE_DEFAULT NOT NULL,
        name       nvarchar(128)  COLLATE DATABASE_DEFAULT NOT NULL,
        type       nvarchar(16)   COLLATE DATABASE_DEFAULT NOT NULL,
        feature    nvarchar(max)  COLLATE DATABASE_DEFAULT NOT NULL,
        transform  nvarchar(16)   COLLATE DATABASE_DEFAULT NOT NULL,
        weight     float          NOT NULL,
        value      nvarchar(60)   COLLATE DATABASE_DEFAULT NOT NULL,
        low_share  float          NULL,
        high_share float          NULL,
        absent     bigint         NOT NULL,
        known      bigint         NOT NULL,
        skipped    bigint         NOT NULL,
        usable     bit            NOT NULL,
        problem    nvarchar(max)  COLLATE DATABASE_DEFAULT NULL,
        weights    float          NULL,
        squares    float          NULL,
        least      float          NULL,
        greatest   float          NULL,
        fractions  bigint         NULL,
        floors     bigint         NULL,
        mean       float          NULL,
        fill       float          NULL,
        fill_value float          NULL,
        low        float          NULL,
        high       float          NULL,
        origin     float          NULL,
        center     float          NULL,
        scale      float          NULL
    );
    CREATE TABLE #sqlkmeans_sample
    (
        [sqlkmeans row]    int    NULL,
        [sqlkmeans weight] float  NOT NULL,
        place              bigint NOT NULL
    );
    CREATE TABLE #sqlkmeans_border
    (
        level                int   NOT NULL,
        [sqlkmeans row]      int   NOT NULL,
        [sqlkmeans previous] int   NULL,
        [sqlkmeans weight]   float NOT NULL
    );
    CREATE TABLE #sqlkmeans_moved
    (
        kept      bit    NOT NULL,
        cluster   int    NOT NULL,
        previous  int    NULL,
        customers bigint NOT NULL,
        weight    float  NOT NULL,
        squares   float  NOT NULL
    );

    EXECUTE sqlkmeans.train_columns
        @run_id = @run_id, @definition = @definition, @reference_date = @begun,
        @features = @features OUTPUT, @fitted = @weighing OUTPUT;
    SELECT @relation = N'#sqlkmeans_input AS i
CROSS APPLY (SELECT ' + sqlkmeans.joined((
            SELECT N', ' + REPLACE(CASE c.type
                    WHEN N'date' THEN N'DATEADD(day, CAST(i.[sqlkmeans f{}] AS int), CAST(''19700101'' AS date)) AS '
                    ELSE N'i.[sqlkmeans f{}] AS ' END, N'{}', c.x) + QUOTENAME(c.name)
            FROM #sqlkmeans_column AS c
            ORDER BY c.number
            FOR XML PATH('')), N', ') + CASE JSON_VALUE(@definition, '$.missing') WHEN N'skip' THEN N' WHERE '
            + sqlkmeans.each_number(
                (SELECT COUNT(*) FROM #sqlkmeans_column AS c), N'i.[sqlkmeans f{}] IS NOT NULL', N' AND ')
            ELSE N'' END + N') AS s',
        @given = sqlkmeans.each_name(@key, N'i.{}', N', ') + N', i.[sqlkmeans row], i.[sqlkmeans previous], '
            + N'i.[sqlkmeans before], i.[sqlkmeans flagged], i.[sqlkmeans weight]';
    EXECUTE sqlkmeans.prepare_rows
        @run_id = @run_id, @model_run_id = @run_id, @key = @key, @features = @features,
        @relation = @relation, @given = @given, @rows = @rows OUTPUT;
    -- Nobody has to read them again.
    TRUNCATE TABLE #sqlkmeans_input;
    EXECUTE sqlkmeans.train_seed
        @run_id = @run_id, @definition = @definition, @k = @k, @features = @features,
        @weighing = @weighing, @threshold = @threshold OUTPUT, @n_iter = @n_iter OUTPUT;
    EXECUTE sqlkmeans.train_passes
        @run_id = @run_id, @k = @k, @features = @features, @threshold = @threshold,
        @n_iter = @n_iter OUTPUT;
    SET @fitted = SYSUTCDATETIME();
    EXECUTE sqlkmeans.train_bins @run_id = @run_id;
    EXECUTE sqlkmeans.train_labels
        @run_id = @run_id, @active = @active, @last_segment_id = @last_segment_id,
        @definition = @definition, @k = @k, @features = @features, @total_ss = @total_ss OUTPUT;
    EXECUTE sqlkmeans.mark_outliers @share = @share;
    INSERT INTO sqlkmeans.centroid
        (run_id, segment_id, position, feature, value, scaled_value, outlier_distance)
    SELECT @run_id, c.segment_id, f.position, f.feature, p.value, p.scaled_value, c.outlier_distance
    FROM #sqlkmeans_cluster AS c
    INNER JOIN #sqlkmeans_point AS p ON p.cluster = c.cluster
    INNER JOIN sqlkmeans.model_feature AS f ON f.run_id = @run_id AND f.position = p.position;
    EXECUTE sqlkmeans.count_bins @run_id = @run_id, @scored_run_id = @run_id;
    -- Skipped rows count in the bins of what is missing: a broken load has most.
    UPDATE b
    SET customers = n.customers + CASE b.bin WHEN 0 THEN c.skipped ELSE 0 END
    FROM sqlkmeans.feature_bin AS b
    INNER JOIN #sqlkmeans_bin AS n ON n.position = b.position AND n.bin = b.bin
    INNER JOIN #sqlkmeans_column AS c ON c.name = b.feature
    WHERE b.run_id = @run_id;
    EXECUTE sqlkmeans.train_names
        @run_id = @run_id, @active = @active, @segmentation = @segmentation;

    IF @active IS NOT NULL
        EXECUTE sqlkmeans.train_compare
            @run_id = @run_id, @active = @active, @definition = @definition, @rows = @rows,
            @warnings = @warnings OUTPUT;
    SET @warnings = sqlkmeans.joined((
        SELECT N'segment ' + CAST(c.segment_id AS nvarchar(10)) + N' is one customer: look for wrong values, '
            + N'or try transform = "log1p" or scaling = "robust"' + NCHAR(10)
        FROM #sqlkmeans_cluster AS c
        WHERE c.size = 1
        ORDER BY c.segment_id
        FOR XML PATH('')), N'') + COALESCE(@warnings, N'');
    -- Davies and Bouldin (1979) from mean distances; none where two centroids are the same. Calinski
    -- and Harabasz (1974).
    SELECT @more = N',"n_iter":' + CAST(@n_iter AS nvarchar(10))
        + COALESCE(N',"davies_bouldin":' + sqlkmeans.float_literal(
            CASE WHEN MIN(g.apart) > 0 THEN SUM(g.worst) / @k END), N'')
        + COALESCE(N',"calinski_harabasz":' + sqlkmeans.float_literal(
            CASE WHEN @rows > @k THEN (@total_ss - SUM(g.within_ss)) / (@k - 1)
                / NULLIF(SUM(g.within_ss) / (@rows - @k), 0) END), N'')
        + N',"seconds_fit":' + CAST(DATEDIFF(millisecond, @begun, @fitted) / 1000.0 AS nvarchar(40))
    FROM (SELECT MAX(a.within_ss) AS within_ss, MIN(d.squared) AS apart,
              MAX((a.distance + b.distance) / NULLIF(SQRT(d.squared), 0)) AS worst
          FROM (SELECT x.cluster AS one, y.cluster AS other,
                    SUM((x.scaled_value - y.scaled_value) * (x.scaled_value - y.scaled_value))
                        AS squared
                FROM #sqlkmeans_point AS x
                INNER JOIN #sqlkmeans_point AS y ON y.position = x.position AND y.cluster <> x.cluster
                GROUP BY x.cluster, y.cluster) AS d
          INNER JOIN #sqlkmeans_cluster AS a ON a.cluster = d.one
          INNER JOIN #sqlkmeans_cluster AS b ON b.cluster = d.other
          GROUP BY a.cluster) AS g;
    EXECUTE sqlkmeans.publication_json
        @run_id = @run_id, @model_run_id = @run_id, @rows = @rows, @total = @total, @since = @fitted,
        @more = @more, @warnings = @warnings, @publication = @publication OUTPUT;
END;
GO

-- procedures/label_rows.sql
IF OBJECT_ID(N'sqlkmeans.label_rows', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.label_rows AS RETURN 0;');
GO
-- Makes the tables that labels in T-SQL alone are found in and described from, has a run of the kind
-- 'assign' fill them with the published model (assign_rows) and any other with one that it trains on
-- the caller's #sqlkmeans_input (train_segmentation), and stages the labels that change.
ALTER PROCEDURE sqlkmeans.label_rows
    @run_id      bigint,
    @medians     bit,
    @total       bigint        OUTPUT,
    @publication nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @kind nvarchar(16);
    DECLARE @definition nvarchar(max);
    DECLARE @labels nvarchar(max);

    CREATE TABLE #sqlkmeans_prepared
    (
        [sqlkmeans row]      int   NULL,
        [sqlkmeans previous] int   NULL,
        [sqlkmeans before]   float NULL,
        [sqlkmeans flagged]  bit   NULL,
        [sqlkmeans weight]   float NOT NULL
    );
    CREATE TABLE #sqlkmeans_scored
    (
        [sqlkmeans previous] int   NULL,
        [sqlkmeans before]   float NULL,
        [sqlkmeans flagged]  bit   NULL,
        [sqlkmeans weight]   float NOT NULL,
        [sqlkmeans cluster]  int   NOT NULL,
        [sqlkmeans distance] float NOT NULL
    );
    CREATE TABLE #sqlkmeans_centroid (cluster int NOT NULL PRIMARY KEY);
    CREATE TABLE #sqlkmeans_point
    (
        cluster      int   NOT NULL,
        position     int   NOT NULL,
        scaled_value float NOT NULL,
        value        float NOT NULL
    );
    CREATE TABLE #sqlkmeans_cluster
    (
        cluster          int    NOT NULL,
        segment_id       int    NULL,
        size             bigint NOT NULL,
        within_ss        float  NOT NULL,
        inertia          float  NOT NULL,
        weight           float  NOT NULL,
        distance         float  NOT NULL,
        centroid_shift   float  NULL,
        outlier_distance float  NULL,
        outliers         bigint NULL
    );
    CREATE TABLE #sqlkmeans_overlap
    (
        cluster   int    NOT NULL,
        previous  int    NULL,
        customers bigint NOT NULL,
        distance  float  NOT NULL,
        within_ss float  NOT NULL,
        inertia   float  NOT NULL,
        weight    float  NOT NULL
    );
    CREATE TABLE #sqlkmeans_edge
    (
        position  int    NOT NULL,
        number    int    NOT NULL,
        upper     float  NOT NULL,
        customers bigint NULL
    );
    CREATE TABLE #sqlkmeans_profile
    (
        cluster    int    NOT NULL,
        position   int    NOT NULL,
        known      bigint NOT NULL,
        mean       float  NULL,
        deviation  float  NULL,
        lowest     float  NULL,
        median     float  NULL,
        highest    float  NULL,
        importance float  NULL
    );
    CREATE TABLE #sqlkmeans_named
    (
        segment_id  int           NOT NULL PRIMARY KEY,
        name        nvarchar(400) COLLATE DATABASE_DEFAULT NOT NULL,
        name_source nvarchar(16)  COLLATE DATABASE_DEFAULT NOT NULL,
        description nvarchar(max) COLLATE DATABASE_DEFAULT NOT NULL
    );
    CREATE TABLE #sqlkmeans_bin (position int NOT NULL, bin int NOT NULL, customers bigint NOT NULL);
    CREATE TABLE #sqlkmeans_drift
    (
        position               int           NOT NULL,
        feature                nvarchar(400) COLLATE DATABASE_DEFAULT NOT NULL,
        psi                    float         NOT NULL,
        mean                   float         NULL,
        previous_mean          float         NULL,
        missing_share          float         NOT NULL,
        previous_missing_share float         NOT NULL
    );

    SELECT @kind = r.kind, @definition = r.definition FROM sqlkmeans.run AS r WHERE r.run_id = @run_id;
    IF @kind = N'assign'
        EXECUTE sqlkmeans.assign_rows
            @run_id = @run_id, @medians = @medians, @total = @total OUTPUT, @publication = @publication OUTPUT;
    ELSE
        EXECUTE sqlkmeans.train_segmentation
            @run_id = @run_id, @total = @total, @publication = @publication OUTPUT;
    SET @labels = sqlkmeans.labels_text(JSON_QUERY(@definition, '$.key'));
    EXECUTE sqlkmeans.profile_columns
        @definition = @definition, @labels = @labels, @medians = @medians,
        @publication = @publication OUTPUT;
    EXECUTE sqlkmeans.stage_changes
        @run_id = @run_id, @definition = @definition, @publication = @publication OUTPUT;
END;
GO

-- procedures/assign_segments.sql
IF OBJECT_ID(N'sqlkmeans.assign_segments', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.assign_segments AS RETURN 0;');
GO
-- Labels new, changed and departed customers with the stored model, in SQL alone, and publishes.
ALTER PROCEDURE sqlkmeans.assign_segments
    @segmentation nvarchar(128) = NULL,
    @run_id       bigint        = NULL OUTPUT,
    @medians      bit           = 1,
    @quiet        bit           = 0,
    @help         bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@segmentation', N'nvarchar(128)', N'NULL',
                N'A segmentation that has a model; the caller must be able to read its source.'),
            (2, N'@run_id', N'bigint OUTPUT', N'NULL', N'The run that records the assignment.'),
            (3, N'@medians', N'bit', N'1',
                N'0 leaves out the medians of the profile, the only figures that take a second look at the rows.'),
            (4, N'@quiet', N'bit', N'0', N'1 gives no row back, for a procedure that calls this one.'),
            (5, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @problems nvarchar(max);
    DECLARE @definition nvarchar(max);
    DECLARE @active bigint;
    DECLARE @publication nvarchar(max);
    DECLARE @rows bigint;
    DECLARE @total bigint;
    DECLARE @arrived bigint;
    DECLARE @moved bigint;
    DECLARE @departed bigint;
    DECLARE @written bigint;
    DECLARE @error nvarchar(max);

    SELECT @definition = g.definition, @active = g.active_run_id
    FROM sqlkmeans.segmentation AS g
    WHERE g.name = @segmentation;

    IF @definition IS NULL
        SET @problems = N'@segmentation: ' + COALESCE(@segmentation, N'NULL')
            + N' given; allowed: the name of a segmentation in sqlkmeans.segmentation';
    ELSE IF @active IS NULL
        SET @problems = @segmentation + N': no model yet; the first run makes it';
    EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;

    -- A category has several features, one after the other.
    IF EXISTS (
        SELECT 1
        FROM OPENJSON(@definition, '$.features') AS j
        FULL JOIN (SELECT ROW_NUMBER() OVER (ORDER BY MIN(m.position)) AS position, m.source_column,
                       m.type, m.transform, m.weight
                   FROM sqlkmeans.model_feature AS m
                   WHERE m.run_id = @active
                   GROUP BY m.source_column, m.type, m.transform, m.weight) AS f
            ON f.position = CAST(j.[key] AS int) + 1
           AND f.source_column = JSON_VALUE(j.[value], '$.column')
           AND f.type = COALESCE(JSON_VALUE(j.[value], '$.type'), N'number')
           AND f.transform = COALESCE(JSON_VALUE(j.[value], '$.transform'), N'none')
           AND f.weight = COALESCE(CAST(JSON_VALUE(j.[value], '$.weight') AS float), 1)
        WHERE f.position IS NULL OR j.[key] IS NULL)
    BEGIN
        SET @problems = @segmentation
            + N': the features are not those of the stored model; a run fits a new one';
        EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;
    END;

    EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @keep = 1;

    BEGIN TRY
        EXECUTE sqlkmeans.start_run
            @segmentation = @segmentation, @kind = N'assign', @engine = N'tsql',
            @run_id = @run_id OUTPUT;
        EXECUTE sqlkmeans.label_rows
            @run_id = @run_id, @medians = @medians, @total = @total OUTPUT,
            @publication = @publication OUTPUT;
        SET @rows = CAST(JSON_VALUE(@publication, '$.run.rows') AS bigint);

        EXECUTE sqlkmeans.publish_staged
            @run_id = @run_id, @publication = @publication, @arrived = @arrived OUTPUT,
            @moved = @moved OUTPUT, @departed = @departed OUTPUT, @written = @written OUTPUT;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1, @keep = 1;
    END TRY
    BEGIN CATCH
        SET @error = ERROR_MESSAGE();
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        IF EXISTS (SELECT 1 FROM sqlkmeans.run AS r WHERE r.run_id = @run_id)
            EXECUTE sqlkmeans.fail_run @run_id = @run_id, @error = @error;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1, @keep = 1;
        THROW;
    END CATCH;

    IF @quiet = 0
        SELECT @run_id AS run_id, @rows AS [rows], @total - @rows AS skipped, @arrived AS arrived,
            @moved AS moved, @departed AS departed, @written AS written;
END;
GO

-- procedures/run_segmentation.sql
IF OBJECT_ID(N'sqlkmeans.run_segmentation', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.run_segmentation AS RETURN 0;');
GO
-- Trains a segmentation inside the server, with Python or without, and publishes it. Python gets
-- row numbers instead of keys, because a bigint would reach it rounded and most other types not at
-- all.
ALTER PROCEDURE sqlkmeans.run_segmentation
    @segmentation nvarchar(128) = NULL,
    @definition   nvarchar(max) = NULL,
    @engine       nvarchar(32)  = NULL,
    @run_id       bigint        = NULL OUTPUT,
    @quiet        bit           = 0,
    @help         bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@segmentation', N'nvarchar(128)', N'NULL',
                N'A registered segmentation; the caller must be able to read its source.'),
            (2, N'@definition', N'nvarchar(max)', N'NULL',
                N'Its definition as JSON; NULL takes the one that is recorded.'),
            (3, N'@engine', N'nvarchar(32)', N'NULL',
                N'in_database trains with Python in the server, tsql in T-SQL alone; NULL: the definition''s, or in_database.'),
            (4, N'@run_id', N'bigint OUTPUT', N'NULL', N'The run.'),
            (5, N'@quiet', N'bit', N'0', N'1 gives no row back, for a procedure that calls this one.'),
            (6, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @problems nvarchar(max);
    DECLARE @key nvarchar(max);
    DECLARE @columns nvarchar(max);
    DECLARE @staging nvarchar(200);
    DECLARE @labels nvarchar(max);
    DECLARE @kept bigint;
    DECLARE @statement nvarchar(max);
    DECLARE @job nvarchar(max);
    DECLARE @publication nvarchar(max);
    DECLARE @position int = 0;
    DECLARE @rows bigint;
    DECLARE @total bigint;
    DECLARE @code int;
    DECLARE @arrived bigint;
    DECLARE @moved bigint;
    DECLARE @departed bigint;
    DECLARE @written bigint;
    DECLARE @error nvarchar(max);
    DECLARE @begun datetime2(6) = SYSUTCDATETIME();
    DECLARE @seconds_read nvarchar(40);

    SELECT @definition = COALESCE(@definition, g.definition)
    FROM sqlkmeans.segmentation AS g
    WHERE g.name = @segmentation;

    IF @definition IS NULL OR ISJSON(@definition) = 0
    BEGIN
        SET @problems = N'@segmentation: ' + COALESCE(@segmentation, N'NULL')
            + N' given; allowed: a segmentation that define_segmentation has registered';
        EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;
    END;
    SET @engine = LOWER(COALESCE(@engine, CASE JSON_VALUE(@definition, '$.engine')
                                              WHEN N'tsql' THEN N'tsql' ELSE N'in_database' END));
    IF @engine NOT IN (N'in_database', N'tsql')
    BEGIN
        SET @problems = N'@engine: ' + @engine + N' given; allowed: in_database, tsql';
        EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;
    END;
    IF @engine = N'in_database' AND OBJECT_ID(N'sys.sp_execute_external_script') IS NULL
        EXECUTE sqlkmeans.raise_problems @number = 50004,
            @problems = N'this server runs no external scripts; train with @engine = N''tsql'', or with the client: sqlkmeans run';
    IF @engine = N'tsql' AND TRY_CAST(JSON_VALUE(@definition, '$.k') AS int) IS NULL
    BEGIN
        SET @problems = N'k: ' + COALESCE(JSON_VALUE(@definition, '$.k'), N'NULL')
            + N' given; allowed where T-SQL trains: a number, such as sqlkmeans choose-k recommends';
        EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;
    END;
    IF @engine = N'tsql' AND TRY_CAST(JSON_VALUE(@definition, '$.trim') AS float) > 0
    BEGIN
        SET @problems = N'trim: ' + JSON_VALUE(@definition, '$.trim')
            + N' needs to look at rows, and engine tsql sees sums; use local or in_database';
        EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;
    END;
    SET @key = JSON_QUERY(@definition, '$.key');

    CREATE TABLE #sqlkmeans_input
    (
        [sqlkmeans row]      int    NOT NULL,
        [sqlkmeans place]    bigint NOT NULL,
        [sqlkmeans previous] int    NULL,
        [sqlkmeans before]   float  NULL,
        [sqlkmeans flagged]  bit    NULL,
        [sqlkmeans weight]   float  NULL
    );
    CREATE TABLE #sqlkmeans_label
    (
        row_number int   NOT NULL PRIMARY KEY,
        cluster    int   NOT NULL,
        distance   float NOT NULL
    );
    CREATE TABLE #sqlkmeans_cluster_id (cluster int NOT NULL PRIMARY KEY, segment_id int NOT NULL);
    CREATE TABLE #sqlkmeans_publication (content nvarchar(max) COLLATE DATABASE_DEFAULT NULL);

    EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @keep = 1;

    BEGIN TRY
        EXECUTE sqlkmeans.start_run
            @segmentation = @segmentation, @definition = @definition, @kind = N'fit',
            @engine = @engine,
            @run_id = @run_id OUTPUT;
        SET @staging = N'sqlkmeans.' + QUOTENAME(N'staging_' + CAST(@run_id AS nvarchar(20)));

        EXECUTE sqlkmeans.read_source
            @definition = @definition, @staging = @staging, @columns = @columns OUTPUT,
            @total = @total OUTPUT;
        SET @seconds_read =
            CAST(DATEDIFF(millisecond, @begun, SYSUTCDATETIME()) / 1000.0 AS nvarchar(40));

        IF @engine = N'tsql'
            EXECUTE sqlkmeans.label_rows
                @run_id = @run_id, @medians = 1, @total = @total OUTPUT, @publication = @publication OUTPUT;
        ELSE
        BEGIN
            EXECUTE sqlkmeans.check_keys @relation = N'#sqlkmeans_input AS s', @key = @key;
            EXECUTE sqlkmeans.job_text
                @run_id = @run_id, @reference_date = @begun, @job = @job OUTPUT;

            -- As the owner, so that nobody has to be granted external scripts.
            SET @statement = N'
DECLARE @publication nvarchar(max);
DECLARE @language nvarchar(128) = COALESCE(JSON_VALUE(@text, ''$.definition.language''), N''Python'');
INSERT INTO #sqlkmeans_label (row_number, cluster, distance)
EXECUTE sys.sp_execute_external_script
    @language = @language,
    @script = N''
from sqlkmeans.external_script import run_segmentation

OutputDataSet, publication = run_segmentation(InputDataSet, job)
'',
    @input_data_1 = N''SELECT [sqlkmeans row] AS row_number, [sqlkmeans previous] AS previous_segment_id' + @columns + N' FROM #sqlkmeans_input'',
    @params = N''@job nvarchar(max), @publication nvarchar(max) OUTPUT'',
    @job = @text,
    @publication = @publication OUTPUT;
INSERT INTO #sqlkmeans_publication (content) VALUES (@publication);
';
            EXECUTE sqlkmeans.as_owner @statement = @statement, @text = @job;
            SELECT @publication = p.content FROM #sqlkmeans_publication AS p;
        END;

        IF JSON_QUERY(@publication, '$.error') IS NOT NULL OR @publication IS NULL
        BEGIN
            SET @problems = N'';
            SET @position = 0;
            WHILE EXISTS (SELECT 1 FROM OPENJSON(@publication, '$.error.problems') AS j
                          WHERE CAST(j.[key] AS int) = @position)
            BEGIN
                SELECT @problems = @problems + j.[value] + NCHAR(10)
                FROM OPENJSON(@publication, '$.error.problems') AS j
                WHERE CAST(j.[key] AS int) = @position;
                SET @position = @position + 1;
            END;
            IF @problems = N''
                SET @problems = N'Python gave no publication back';
            SET @code = 50000 + COALESCE(TRY_CAST(JSON_VALUE(@publication, '$.error.code') AS int), 1);
            EXECUTE sqlkmeans.raise_problems @number = @code, @problems = @problems;
        END;

        IF @engine = N'in_database'
        BEGIN
            SELECT @kept = COUNT_BIG(*)
            FROM #sqlkmeans_input AS i
            INNER JOIN #sqlkmeans_label AS l ON l.row_number = i.[sqlkmeans row]
            WHERE i.[sqlkmeans previous] IS NOT NULL;
            INSERT INTO #sqlkmeans_cluster_id (cluster, segment_id)
            SELECT CAST(j.[key] AS int), CAST(j.[value] AS int)
            FROM OPENJSON(@publication, '$.segment_ids') AS j;
            SET @labels = N'SELECT ' + sqlkmeans.each_name(@key, N'i.{}', N', ') + N', c.segment_id,
    l.distance, i.[sqlkmeans previous], i.[sqlkmeans before], i.[sqlkmeans flagged]
FROM #sqlkmeans_label AS l
INNER JOIN #sqlkmeans_cluster_id AS c ON c.cluster = l.cluster
INNER JOIN #sqlkmeans_input AS i ON i.[sqlkmeans row] = l.row_number';
            EXECUTE sqlkmeans.profile_columns
                @definition = @definition, @labels = @labels, @medians = 1,
                @publication = @publication OUTPUT;
            EXECUTE sqlkmeans.stage_changes
                @run_id = @run_id, @definition = @definition, @publication = @publication OUTPUT,
                @labels = @labels, @kept = @kept;
        END;
        SET @rows = CAST(JSON_VALUE(@publication, '$.run.rows') AS bigint);

        SET @publication = JSON_MODIFY(
            @publication, '$.run.seconds_read', CAST(@seconds_read AS float));
        EXECUTE sqlkmeans.publish_staged
            @run_id = @run_id, @publication = @publication, @arrived = @arrived OUTPUT,
            @moved = @moved OUTPUT, @departed = @departed OUTPUT, @written = @written OUTPUT;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1, @keep = 1;
    END TRY
    BEGIN CATCH
        SET @error = ERROR_MESSAGE();
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        -- Python did not start (39012), or ended before or outside sqlkmeans: 39004, and then 39019
        -- with what it said. Of several errors this is the last.
        IF ERROR_NUMBER() IN (39004, 39012, 39019)
            SET @error = N'Python could not run sqlkmeans (is the package installed for the '
                + N'server''s Python? docs/deploy.md): ' + @error;
        IF EXISTS (SELECT 1 FROM sqlkmeans.run AS r WHERE r.run_id = @run_id)
            EXECUTE sqlkmeans.fail_run @run_id = @run_id, @error = @error;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1, @keep = 1;
        IF ERROR_NUMBER() IN (39004, 39012, 39019)
            EXECUTE sqlkmeans.raise_problems @number = 50001, @problems = @error;
        THROW;
    END CATCH;

    IF @quiet = 0
        SELECT @run_id AS run_id, @rows AS [rows], @total - @rows AS skipped, @arrived AS arrived,
            @moved AS moved, @departed AS departed, @written AS written;
END;
GO

-- procedures/purge.sql
IF OBJECT_ID(N'sqlkmeans.purge', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.purge AS RETURN 0;');
GO
-- Deletes old runs with their models, and old labels from the history. What is published now, and the
-- models that kept runs use, always stay. One segmentation at a time, under its lock.
ALTER PROCEDURE sqlkmeans.purge
    @segmentation nvarchar(128) = NULL,
    @keep_days    int           = 365,
    @history      bit           = 0,
    @execute      bit           = 1,
    @quiet        bit           = 0,
    @help         bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@segmentation', N'nvarchar(128)', N'NULL',
                N'One segmentation; NULL takes all that are not being run.'),
            (2, N'@keep_days', N'int', N'365', N'Runs that ended in so many days stay, 1 to 36,500.'),
            (3, N'@history', N'bit', N'0',
                N'1 deletes labels from the history too that ended before then; those that ended before history_days always go.'),
            (4, N'@execute', N'bit', N'1', N'0 shows what would be deleted and deletes nothing.'),
            (5, N'@quiet', N'bit', N'0', N'1 gives no row back, for a procedure that calls this one.'),
            (6, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @problems nvarchar(max) = N'';
    DECLARE @now datetime2(6) = SYSUTCDATETIME();
    DECLARE @before datetime2(6);
    DECLARE @then datetime2(6);
    DECLARE @name nvarchar(128) = N'';
    DECLARE @definition nvarchar(max);
    DECLARE @target nvarchar(1000);
    DECLARE @days int;
    DECLARE @rows bigint;
    DECLARE @runs bigint = 0;
    DECLARE @history_rows bigint = 0;
    DECLARE @busy nvarchar(max);

    IF @segmentation IS NOT NULL
       AND NOT EXISTS (SELECT 1 FROM sqlkmeans.segmentation AS g WHERE g.name = @segmentation)
        SET @problems = @problems + N'@segmentation: ' + @segmentation
            + N' given; allowed: the name of a segmentation in sqlkmeans.segmentation' + @line;
    IF @keep_days IS NULL OR @keep_days NOT BETWEEN 1 AND 36500
        SET @problems = @problems + N'@keep_days: ' + COALESCE(CAST(@keep_days AS nvarchar(20)), N'NULL')
            + N' given; allowed: 1 to 36,500' + @line;
    EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;

    SET @before = DATEADD(day, -@keep_days, @now);
    CREATE TABLE #sqlkmeans_old (run_id bigint NOT NULL PRIMARY KEY);

    WHILE 1 = 1
    BEGIN
        SET @definition = NULL;
        SELECT TOP (1) @name = g.name, @definition = g.definition, @target = g.target
        FROM sqlkmeans.segmentation AS g
        WHERE g.name > @name AND (@segmentation IS NULL OR g.name = @segmentation)
        ORDER BY g.name;
        IF @definition IS NULL
            BREAK;

        BEGIN TRY
            -- To look at it takes no lock.
            IF @execute = 1
            BEGIN
                EXECUTE sqlkmeans.take_lock @segmentation = @name;
                EXECUTE sqlkmeans.reclaim_runs @segmentation = @name;
                EXECUTE sqlkmeans.drop_parts @segmentation = @name;
            END;

            DELETE FROM #sqlkmeans_old;
            INSERT INTO #sqlkmeans_old (run_id)
            SELECT r.run_id
            FROM sqlkmeans.run AS r
            INNER JOIN sqlkmeans.segmentation AS g ON g.name = r.segmentation
            WHERE r.segmentation = @name
              AND r.status <> N'running'
              AND r.finished_at < @before
              AND r.run_id <> COALESCE(g.active_run_id, 0)
              -- A heap that somebody still writes into is found by its run.
              AND OBJECT_ID(N'sqlkmeans.' + QUOTENAME(N'staging_' + CAST(r.run_id AS nvarchar(20)) + N'_parts'),
                      N'U') IS NULL
              AND (r.published_at IS NULL OR r.published_at <
                   (SELECT MAX(l.published_at) FROM sqlkmeans.run AS l
                    WHERE l.segmentation = @name AND l.status = N'published'));

            DELETE o
            FROM #sqlkmeans_old AS o
            INNER JOIN sqlkmeans.run AS r ON o.run_id = r.model_run_id OR o.run_id = r.restored_run_id
            WHERE r.segmentation = @name
              AND r.run_id <> o.run_id
              AND NOT EXISTS (SELECT 1 FROM #sqlkmeans_old AS p WHERE p.run_id = r.run_id);

            SELECT @rows = COUNT_BIG(*) FROM #sqlkmeans_old AS o;
            SET @runs = @runs + @rows;
            IF @execute = 1 AND @rows > 0
                EXECUTE sqlkmeans.delete_runs;

            SET @days = TRY_CAST(JSON_VALUE(@definition, '$.history_days') AS int);
            SET @then = DATEADD(day, -@days, @now);
            IF @history = 1 AND (@then IS NULL OR @then < @before)
                SET @then = @before;
            EXECUTE sqlkmeans.purge_history
                @target = @target, @then = @then, @execute = @execute, @rows = @rows OUTPUT;
            SET @history_rows = @history_rows + @rows;

            IF @execute = 1
                EXECUTE sqlkmeans.take_lock @segmentation = @name, @release = 1;
        END TRY
        BEGIN CATCH
            IF XACT_STATE() <> 0
                ROLLBACK TRANSACTION;
            -- One that is being run keeps nobody else's past.
            IF @segmentation IS NULL AND ERROR_NUMBER() = 50005
                SET @busy = COALESCE(@busy + N', ', N'') + @name;
            ELSE
            BEGIN
                EXECUTE sqlkmeans.take_lock @segmentation = @name, @release = 1;
                THROW;
            END;
        END CATCH;
    END;

    IF @quiet = 0
        SELECT CASE WHEN @execute = 1 THEN N'deleted' ELSE N'would be deleted' END AS outcome,
            @runs AS runs, @history_rows AS history_rows, @before AS before, @busy AS busy;
END;
GO

-- procedures/drop_segmentation.sql
IF OBJECT_ID(N'sqlkmeans.drop_segmentation', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.drop_segmentation AS RETURN 0;');
GO
-- Removes a segmentation with its runs and models, functions, history, view with names and staging
-- tables. The segment table stays, because reports may join it, unless it is asked for. The rows of
-- schema sqlkmeans go last: where a call was cut short, the same call carries on.
ALTER PROCEDURE sqlkmeans.drop_segmentation
    @segmentation nvarchar(128) = NULL,
    @drop_target  bit           = 0,
    @execute      bit           = 1,
    @quiet        bit           = 0,
    @help         bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@segmentation', N'nvarchar(128)', N'NULL', N'The segmentation to remove.'),
            (2, N'@drop_target', N'bit', N'0', N'1 drops its segment table too.'),
            (3, N'@execute', N'bit', N'1', N'0 shows the statements and does nothing.'),
            (4, N'@quiet', N'bit', N'0', N'1 gives no row back, for a procedure that calls this one.'),
            (5, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @problems nvarchar(max);
    DECLARE @position int = 0;
    DECLARE @kind nvarchar(20);
    DECLARE @name nvarchar(1000);
    DECLARE @statement nvarchar(max);

    IF NOT EXISTS (SELECT 1 FROM sqlkmeans.segmentation AS g WHERE g.name = @segmentation)
        SET @problems = N'@segmentation: ' + COALESCE(@segmentation, N'NULL')
            + N' given; allowed: the name of a segmentation in sqlkmeans.segmentation';
    EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;

    CREATE TABLE #sqlkmeans_old (run_id bigint NOT NULL PRIMARY KEY);
    CREATE TABLE #sqlkmeans_drop
    (
        position  int            IDENTITY (1, 1) NOT NULL PRIMARY KEY,
        kind      nvarchar(20)   COLLATE DATABASE_DEFAULT NULL,
        name      nvarchar(1000) COLLATE DATABASE_DEFAULT NULL,
        statement nvarchar(max)  COLLATE DATABASE_DEFAULT NULL
    );

    EXECUTE sqlkmeans.take_lock @segmentation = @segmentation;

    BEGIN TRY
        IF @execute = 1
            EXECUTE sqlkmeans.reclaim_runs @segmentation = @segmentation;

        INSERT INTO #sqlkmeans_drop (kind, name)
        SELECT N'function', o.name
        FROM sys.objects AS o
        WHERE o.schema_id = SCHEMA_ID(N'sqlkmeans') AND RTRIM(o.type) IN (N'IF', N'TF', N'FN')
          AND o.name IN (N'assign_' + @segmentation, N'explain_' + @segmentation)
        ORDER BY o.name;

        -- Every target that it has or had and that is no other segmentation's; of it, what is marked as
        -- made by sqlkmeans.
        INSERT INTO #sqlkmeans_drop (kind, name)
        SELECT k.kind, t.target
        FROM (SELECT g.target FROM sqlkmeans.segmentation AS g WHERE g.name = @segmentation
              UNION
              SELECT JSON_VALUE(r.definition, '$.target')
              FROM sqlkmeans.run AS r
              WHERE r.segmentation = @segmentation) AS t
        CROSS JOIN (VALUES (1, N'view', N'_named'), (2, N'history', N'_history'),
                           (3, CASE WHEN @drop_target = 1 THEN N'target' ELSE N'grant' END, N'')
                   ) AS k (position, kind, suffix)
        WHERE EXISTS (SELECT 1 FROM sys.extended_properties AS e
                      WHERE e.class = 1 AND e.minor_id = 0 AND e.name = N'sqlkmeans'
                        AND e.major_id = OBJECT_ID(sqlkmeans.quoted_name(t.target, k.suffix)))
          AND NOT EXISTS (SELECT 1 FROM sqlkmeans.segmentation AS o
                          WHERE o.name <> @segmentation
                            AND sqlkmeans.quoted_name(o.target, N'')
                                = sqlkmeans.quoted_name(t.target, N''))
        ORDER BY t.target, k.position;

        INSERT INTO #sqlkmeans_old (run_id)
        SELECT r.run_id FROM sqlkmeans.run AS r WHERE r.segmentation = @segmentation;

        -- What a task that was given up still wrote into when its run ended.
        INSERT INTO #sqlkmeans_drop (kind, name)
        SELECT N'parts', t.name
        FROM (SELECT N'staging_' + CAST(o.run_id AS nvarchar(20)) + N'_parts' AS name
              FROM #sqlkmeans_old AS o) AS t
        WHERE OBJECT_ID(N'sqlkmeans.' + QUOTENAME(t.name), N'U') IS NOT NULL;

        IF @execute = 1
        BEGIN
            -- First out of the view segment_movement, which reads the history.
            UPDATE sqlkmeans.segmentation SET active_run_id = NULL WHERE name = @segmentation;
            EXECUTE sqlkmeans.refresh_movement;
        END;

        WHILE EXISTS (SELECT 1 FROM #sqlkmeans_drop AS d WHERE d.position > @position)
        BEGIN
            SET @position = @position + 1;
            SELECT @kind = d.kind, @name = d.name FROM #sqlkmeans_drop AS d WHERE d.position = @position;
            SET @statement = CASE @kind
                WHEN N'function' THEN N'DROP FUNCTION IF EXISTS sqlkmeans.' + QUOTENAME(@name)
                WHEN N'parts' THEN N'SET LOCK_TIMEOUT 60000; DROP TABLE IF EXISTS sqlkmeans.' + QUOTENAME(@name)
                WHEN N'view' THEN N'DROP VIEW IF EXISTS ' + sqlkmeans.quoted_name(@name, N'_named')
                WHEN N'history' THEN N'DROP TABLE IF EXISTS ' + sqlkmeans.quoted_name(@name, N'_history')
                WHEN N'target' THEN N'DROP TABLE IF EXISTS ' + sqlkmeans.quoted_name(@name, N'')
                WHEN N'grant' THEN N'REVOKE SELECT ON ' + sqlkmeans.quoted_name(@name, N'')
                    + N' FROM sqlkmeans_reader' END + N';';
            UPDATE #sqlkmeans_drop SET statement = @statement WHERE position = @position;
            IF @execute = 1
                EXECUTE sqlkmeans.as_owner @statement = @statement;
        END;

        IF @execute = 1
        BEGIN
            EXECUTE sqlkmeans.delete_runs;
            DELETE FROM sqlkmeans.segmentation WHERE name = @segmentation;
        END;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1;
    END TRY
    BEGIN CATCH
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        EXECUTE sqlkmeans.take_lock @segmentation = @segmentation, @release = 1;
        THROW;
    END CATCH;

    INSERT INTO #sqlkmeans_drop (statement)
    SELECT N'DELETE FROM sqlkmeans.run WHERE segmentation = ' + sqlkmeans.text_literal(@segmentation)
        + N'; -- ' + CAST(COUNT(*) AS nvarchar(20)) + N' runs, and what they learnt'
    FROM #sqlkmeans_old AS o;
    INSERT INTO #sqlkmeans_drop (statement)
    VALUES (N'DELETE FROM sqlkmeans.segmentation WHERE name = ' + sqlkmeans.text_literal(@segmentation)
        + N';');

    IF @quiet = 0
        SELECT CASE WHEN @execute = 1 THEN N'done' ELSE N'would be done' END AS outcome, d.statement
        FROM #sqlkmeans_drop AS d
        ORDER BY d.position;
END;
GO

-- procedures/create_agent_job.sql
IF OBJECT_ID(N'sqlkmeans.create_agent_job', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.create_agent_job AS RETURN 0;');
GO
-- Makes or changes the SQL Server Agent job of a segmentation and a step. Runs as the caller, who needs a
-- role of msdb for it: SQLAgentUserRole reads the views of msdb, not its tables, and may not name an
-- owner or make a category. A job that is there keeps its history and its owner.
ALTER PROCEDURE sqlkmeans.create_agent_job
    @segmentation     nvarchar(128)  = NULL,
    @step             nvarchar(20)   = N'run',
    @command          nvarchar(3000) = NULL,
    @frequency        nvarchar(10)   = N'daily',
    @day              int            = 1,
    @at               nvarchar(5)    = N'02:00',
    @notify_operator  nvarchar(128)  = NULL,
    @retry_attempts   int            = 2,
    @retry_minutes    int            = 5,
    @owner            nvarchar(128)  = NULL,
    @keep_days        int            = NULL,
    @execute          bit            = 1,
    @quiet            bit            = 0,
    @help             bit            = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@segmentation', N'nvarchar(128)', N'NULL',
                N'A registered segmentation; with purge, NULL takes all of them.'),
            (2, N'@step', N'nvarchar(20)', N'N''run''',
                N'run trains in the database, assign labels with the stored model, purge deletes old runs, command_line runs @command.'),
            (3, N'@command', N'nvarchar(3000)', N'NULL',
                N'For command_line: what the operating system runs, such as sqlkmeans run C:\jobs\shop.toml.'),
            (4, N'@frequency', N'nvarchar(10)', N'N''daily''', N'daily, weekly or monthly.'),
            (5, N'@day', N'int', N'1',
                N'weekly: 1 (Sunday) to 7; monthly: 1 to 31, skipped in months without it.'),
            (6, N'@at', N'nvarchar(5)', N'N''02:00''', N'Time of day, hh:mm.'),
            (7, N'@notify_operator', N'nvarchar(128)', N'NULL',
                N'An operator of Agent who gets mail when the job fails.'),
            (8, N'@retry_attempts', N'int', N'2', N'0 to 100.'),
            (9, N'@retry_minutes', N'int', N'5', N'Between two attempts, 0 to 1,440.'),
            (10, N'@owner', N'nvarchar(128)', N'NULL',
                N'The login that owns the job; NULL keeps its owner, a new job takes the caller.'),
            (11, N'@keep_days', N'int', N'NULL',
                N'For purge: runs that ended in so many days stay, 1 to 36,500; NULL takes 365.'),
            (12, N'@execute', N'bit', N'1', N'0 shows what would be done and does nothing.'),
            (13, N'@quiet', N'bit', N'0', N'1 gives no row back, for a procedure that calls this one.'),
            (14, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @problems nvarchar(max) = N'';
    DECLARE @name nvarchar(400) = sqlkmeans.job_name(@segmentation, @step);
    DECLARE @job nvarchar(128) = LEFT(@name, 128);
    DECLARE @category nvarchar(128) = N'sqlkmeans';
    DECLARE @subsystem nvarchar(40) =
        CASE WHEN @step = N'command_line' THEN N'CmdExec' ELSE N'TSQL' END;
    -- T-SQL begins in master: on a secondary replica nobody may be let into the database itself.
    DECLARE @database nvarchar(128) = CASE WHEN @step <> N'command_line' THEN N'master' END;
    DECLARE @here nvarchar(300) = QUOTENAME(DB_NAME());
    -- Who may not ask goes on, and on a secondary fails where it can be seen.
    DECLARE @replica nvarchar(2000) = N'DECLARE @primary bit;
BEGIN TRY
    IF EXISTS (SELECT 1 FROM sys.databases AS d WHERE d.name = ' + sqlkmeans.text_literal(DB_NAME()) + N' AND d.replica_id IS NOT NULL)
        SET @primary = sys.fn_hadr_is_primary_replica(' + sqlkmeans.text_literal(DB_NAME()) + N');
END TRY
BEGIN CATCH
    SET @primary = NULL;
END CATCH;
IF @primary = 0
    ';
    DECLARE @step_id int = 1;
    DECLARE @warning nvarchar(400);
    -- What a step writes goes into the job's history: 4 is for T-SQL only.
    DECLARE @flags int = CASE WHEN @step = N'command_line' THEN 32 ELSE 4 END;
    DECLARE @time int;
    DECLARE @type int;
    DECLARE @interval int;
    DECLARE @recurrence int = CASE WHEN @frequency = N'daily' THEN 0 ELSE 1 END;
    DECLARE @now datetime2(0) = SYSDATETIME();
    DECLARE @today int = YEAR(@now) * 10000 + MONTH(@now) * 100 + DAY(@now);
    DECLARE @mail int = CASE WHEN @notify_operator > N'' THEN 2 ELSE 0 END;
    DECLARE @description nvarchar(512) =
        N'Made by sqlkmeans.create_agent_job; results in sqlkmeans.run_log.';

    -- Empty takes away the operator that a job has; NULL would leave it.
    SET @notify_operator = COALESCE(@notify_operator, N'');

    IF NOT (@step = N'purge' AND @segmentation IS NULL)
       AND NOT EXISTS (SELECT 1 FROM sqlkmeans.segmentation AS g WHERE g.name = @segmentation)
        SET @problems = @problems + N'@segmentation: ' + COALESCE(@segmentation, N'NULL')
            + N' given; allowed: a segmentation that define_segmentation has registered' + @line;
    IF @step IS NULL OR @step NOT IN (N'run', N'assign', N'purge', N'command_line')
        SET @problems = @problems + N'@step: ' + COALESCE(@step, N'NULL')
            + N' given; allowed: run, assign, purge, command_line' + @line;
    ELSE IF LEN(@name) > 128
        SET @problems = @problems + N'@segmentation: the job would be called ' + @name
            + N'; Agent takes 128 characters, so make a job of your own' + @line;
    IF @keep_days NOT BETWEEN 1 AND 36500
        SET @problems = @problems + N'@keep_days: ' + CAST(@keep_days AS nvarchar(20))
            + N' given; allowed: 1 to 36,500' + @line;
    ELSE IF @step <> N'purge' AND @keep_days IS NOT NULL
        SET @problems = @problems + N'@keep_days: given, and only purge takes it' + @line;
    IF @step = N'command_line' AND COALESCE(@command, N'') = N''
        SET @problems = @problems + N'@command: missing; command_line needs one' + @line;
    IF @step <> N'command_line' AND @command IS NOT NULL
        SET @problems = @problems + N'@command: given, and only command_line takes one' + @line;
    IF @frequency IS NULL OR @frequency NOT IN (N'daily', N'weekly', N'monthly')
        SET @problems = @problems + N'@frequency: ' + COALESCE(@frequency, N'NULL')
            + N' given; allowed: daily, weekly, monthly' + @line;
    IF @day IS NULL OR @day < 1 OR @day > CASE @frequency WHEN N'weekly' THEN 7 ELSE 31 END
        SET @problems = @problems + N'@day: ' + COALESCE(CAST(@day AS nvarchar(20)), N'NULL')
            + N' given; allowed: 1 to 7 for weekly, 1 to 31 for monthly' + @line;
    IF @at IS NULL OR @at NOT LIKE N'[0-2][0-9]:[0-5][0-9]' OR LEFT(@at, 2) > N'23'
        SET @problems = @problems + N'@at: ' + COALESCE(@at, N'NULL')
            + N' given; allowed: 00:00 to 23:59' + @line;
    IF @retry_attempts IS NULL OR @retry_attempts NOT BETWEEN 0 AND 100
        SET @problems = @problems + N'@retry_attempts: '
            + COALESCE(CAST(@retry_attempts AS nvarchar(20)), N'NULL') + N' given; allowed: 0 to 100' + @line;
    IF @retry_minutes IS NULL OR @retry_minutes NOT BETWEEN 0 AND 1440
        SET @problems = @problems + N'@retry_minutes: '
            + COALESCE(CAST(@retry_minutes AS nvarchar(20)), N'NULL') + N' given; allowed: 0 to 1,440' + @line;
    EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;

    IF @step <> N'command_line'
        SET @command = @replica + N'RETURN;
EXECUTE ' + @here + CASE @step
            WHEN N'run' THEN N'.sqlkmeans.run_segmentation @segmentation = '
            WHEN N'assign' THEN N'.sqlkmeans.assign_segments @segmentation = '
            ELSE N'.sqlkmeans.purge @keep_days = ' + CAST(COALESCE(@keep_days, 365) AS nvarchar(10))
                + N', @segmentation = ' END
            + COALESCE(sqlkmeans.text_literal(@segmentation), N'NULL') + N';';
    ELSE
        -- The operating system cannot ask; a step before it can, and ends the job quietly.
        SELECT @step_id = 2, @replica = @replica
            + N'RAISERROR (N''not the primary replica: nothing to do'', 16, 1);';
    SET @time = CAST(REPLACE(@at, N':', N'') AS int) * 100;
    SET @type = CASE @frequency WHEN N'daily' THEN 4 WHEN N'weekly' THEN 8 ELSE 16 END;
    SET @interval = CASE @frequency WHEN N'daily' THEN 1 WHEN N'weekly' THEN POWER(2, @day - 1)
                                    ELSE @day END;

    IF @execute = 1
    BEGIN
        -- Express has the procedures too, but nothing that runs a job.
        IF OBJECT_ID(N'msdb.dbo.sp_add_job', N'P') IS NULL
            OR CAST(SERVERPROPERTY('EngineEdition') AS int) = 4
            EXECUTE sqlkmeans.raise_problems @number = 50004,
                @problems = N'this server has no SQL Server Agent, or you may not use it; schedule the client with the operating system (docs/schedule.md)';

        -- As text, because a server without Agent could not take the procedure otherwise.
        EXECUTE sys.sp_executesql N'
DECLARE @job_id uniqueidentifier;

-- Inside TRY, because procedures of Agent tell a failure by RAISERROR, which ends nothing else.
BEGIN TRY
BEGIN TRANSACTION;

IF NOT EXISTS (SELECT 1 FROM msdb.dbo.syscategories AS c WHERE c.name = @category AND c.category_class = 1)
BEGIN
    IF IS_SRVROLEMEMBER(N''sysadmin'') = 1
        EXECUTE msdb.dbo.sp_add_category @class = N''JOB'', @type = N''LOCAL'', @name = @category;
    ELSE
        SET @category = NULL;
END;

SELECT @job_id = j.job_id FROM msdb.dbo.sysjobs_view AS j WHERE j.name = @job;

IF @job_id IS NULL
BEGIN
    EXECUTE msdb.dbo.sp_add_job
        @job_name = @job, @enabled = 1, @description = @description, @category_name = @category,
        @owner_login_name = @owner, @notify_level_eventlog = 2, @notify_level_email = @mail,
        @notify_email_operator_name = @notify_operator, @job_id = @job_id OUTPUT;
    EXECUTE msdb.dbo.sp_add_jobserver @job_id = @job_id, @server_name = N''(local)'';
END;
ELSE
BEGIN
    EXECUTE msdb.dbo.sp_update_job
        @job_id = @job_id, @enabled = 1, @description = @description, @start_step_id = 1,
        @category_name = @category, @owner_login_name = @owner, @notify_level_eventlog = 2,
        @notify_level_email = @mail, @notify_email_operator_name = @notify_operator;
    EXECUTE msdb.dbo.sp_delete_jobstep @job_id = @job_id, @step_id = 0;
    IF EXISTS (SELECT 1 FROM msdb.dbo.sysschedules_localserver_view AS s WHERE s.name = @job)
        EXECUTE msdb.dbo.sp_delete_jobschedule @job_id = @job_id, @name = @job;
END;

IF @step_id = 2
    EXECUTE msdb.dbo.sp_add_jobstep
        @job_id = @job_id, @step_id = 1, @step_name = N''is this the primary replica'', @subsystem = N''TSQL'',
        @command = @replica, @database_name = N''master'', @on_success_action = 3, @on_fail_action = 1;
EXECUTE msdb.dbo.sp_add_jobstep
    @job_id = @job_id, @step_id = @step_id, @step_name = @step, @subsystem = @subsystem, @command = @command,
    @database_name = @database, @retry_attempts = @retry_attempts,
    @retry_interval = @retry_minutes, @on_success_action = 1, @on_fail_action = 2, @flags = @flags;
EXECUTE msdb.dbo.sp_add_jobschedule
    @job_id = @job_id, @name = @job, @enabled = 1, @freq_type = @type, @freq_interval = @interval,
    @freq_subday_type = 1, @freq_recurrence_factor = @recurrence, @active_start_date = @today,
    @active_start_time = @time;
SELECT @owner = SUSER_SNAME(j.owner_sid) FROM msdb.dbo.sysjobs_view AS j WHERE j.job_id = @job_id;

COMMIT TRANSACTION;
END TRY
BEGIN CATCH
    IF XACT_STATE() <> 0
        ROLLBACK TRANSACTION;
    THROW;
END CATCH;
',
            N'@job nvarchar(128), @category nvarchar(128), @description nvarchar(512),
              @step_id int, @replica nvarchar(2000),
              @owner nvarchar(128) OUTPUT, @mail int, @notify_operator nvarchar(128),
              @step nvarchar(20), @subsystem nvarchar(40), @command nvarchar(max), @database nvarchar(128),
              @flags int, @retry_attempts int, @retry_minutes int, @type int, @interval int, @recurrence int,
              @today int, @time int',
            @job = @job, @category = @category, @description = @description, @owner = @owner OUTPUT,
            @step_id = @step_id, @replica = @replica,
            @mail = @mail, @notify_operator = @notify_operator, @step = @step,
            @subsystem = @subsystem, @command = @command, @database = @database, @flags = @flags,
            @retry_attempts = @retry_attempts, @retry_minutes = @retry_minutes, @type = @type,
            @interval = @interval, @recurrence = @recurrence, @today = @today, @time = @time;
    END;

    SET @owner = COALESCE(@owner, SUSER_SNAME());
    -- What a step does, its owner does; and anybody who may change the procedure or its source then
    -- does it too.
    IF IS_SRVROLEMEMBER(N'sysadmin', @owner) = 1
        SET @warning = N'the owner, ' + @owner + N', is a sysadmin: whatever the step calls runs as '
            + N'one. Name a login with as few permissions as docs/schedule.md says in @owner';

    IF @quiet = 0
        SELECT @job AS job, CASE WHEN @execute = 1 THEN N'scheduled' ELSE N'would be scheduled' END AS outcome,
            @frequency AS frequency, CASE WHEN @frequency <> N'daily' THEN @day END AS [day], @at AS at_time,
            @command AS command, @owner AS owner, @warning AS warning;
END;
GO

-- procedures/drop_agent_job.sql
IF OBJECT_ID(N'sqlkmeans.drop_agent_job', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.drop_agent_job AS RETURN 0;');
GO
-- Drops the jobs that create_agent_job made, of a step or of each; harmless where there is none.
ALTER PROCEDURE sqlkmeans.drop_agent_job
    @segmentation nvarchar(128) = NULL,
    @step         nvarchar(20)  = NULL,
    @execute      bit           = 1,
    @help         bit           = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@segmentation', N'nvarchar(128)', N'NULL',
                N'The segmentation; it need not exist any more. With purge, NULL is the purge of all of them.'),
            (2, N'@step', N'nvarchar(20)', N'NULL',
                N'The step whose job goes, run, assign, purge or command_line; NULL takes all four.'),
            (3, N'@execute', N'bit', N'1', N'0 shows what would be dropped and drops nothing.'),
            (4, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @line nchar(1) = NCHAR(10);
    DECLARE @problems nvarchar(max) = N'';

    IF COALESCE(@segmentation, N'') = N'' AND COALESCE(@step, N'') <> N'purge'
        SET @problems = @problems + N'@segmentation: missing; allowed: the name of a segmentation, or '
            + N'with @step = N''purge'' none' + @line;
    IF @step NOT IN (N'run', N'assign', N'purge', N'command_line')
        SET @problems = @problems + N'@step: ' + @step
            + N' given; allowed: run, assign, purge, command_line, or NULL for all' + @line;
    EXECUTE sqlkmeans.raise_problems @number = 50002, @problems = @problems;

    CREATE TABLE #sqlkmeans_job (name nvarchar(400) COLLATE DATABASE_DEFAULT NOT NULL);
    INSERT INTO #sqlkmeans_job (name)
    SELECT sqlkmeans.job_name(@segmentation, s.step)
    FROM (VALUES (N'run'), (N'assign'), (N'purge'), (N'command_line')) AS s (step)
    WHERE s.step = COALESCE(@step, s.step);

    IF @execute = 1
    BEGIN
        IF OBJECT_ID(N'msdb.dbo.sp_delete_job', N'P') IS NULL
            EXECUTE sqlkmeans.raise_problems @number = 50004,
                @problems = N'this server has no SQL Server Agent, or you may not use it';

        -- Inside TRY, because procedures of Agent tell a failure by RAISERROR, which ends nothing else.
        EXECUTE sys.sp_executesql N'
DECLARE @job nvarchar(128) = N'''';

BEGIN TRY
DELETE n
FROM #sqlkmeans_job AS n
WHERE NOT EXISTS (SELECT 1 FROM msdb.dbo.sysjobs_view AS j
                  WHERE j.name COLLATE DATABASE_DEFAULT = n.name);
WHILE EXISTS (SELECT 1 FROM #sqlkmeans_job AS n WHERE n.name > @job)
BEGIN
    SELECT @job = MIN(n.name) FROM #sqlkmeans_job AS n WHERE n.name > @job;
    EXECUTE msdb.dbo.sp_delete_job @job_name = @job, @delete_unused_schedule = 1;
END;
END TRY
BEGIN CATCH
    THROW;
END CATCH;
';
    END;

    SELECT n.name AS job, CASE WHEN @execute = 1 THEN N'dropped' ELSE N'would be dropped' END AS outcome
    FROM #sqlkmeans_job AS n
    ORDER BY n.name;
END;
GO

-- procedures/self_test_drop.sql
IF OBJECT_ID(N'sqlkmeans.self_test_drop', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.self_test_drop AS RETURN 0;');
GO
-- Drops what a self-test made, an earlier one's that was killed too, and nothing else. Says in
-- @problem what it could not drop.
ALTER PROCEDURE sqlkmeans.self_test_drop
    @problem nvarchar(max) OUTPUT
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @name nvarchar(128) = N'';
    DECLARE @position int = 0;
    DECLARE @statement nvarchar(max);

    SET @problem = NULL;
    CREATE TABLE #sqlkmeans_leftover
    (
        position  int IDENTITY (1, 1) NOT NULL PRIMARY KEY,
        statement nvarchar(max) COLLATE DATABASE_DEFAULT NOT NULL
    );

    -- The schema is ours if it has our table, or nothing at all.
    IF OBJECT_ID(N'sqlkmeans_self_test.made_by_self_test', N'U') IS NULL
       AND EXISTS (SELECT 1 FROM sys.objects AS o WHERE o.schema_id = SCHEMA_ID(N'sqlkmeans_self_test'))
    BEGIN
        SET @problem = N'schema sqlkmeans_self_test is there already, and the self-test did not make it';
        RETURN 0;
    END;

    WHILE 1 = 1
    BEGIN
        SET @statement = NULL;
        SELECT TOP (1) @name = g.name, @statement = g.name
        FROM sqlkmeans.segmentation AS g
        WHERE g.name LIKE N'sqlkmeans[_]self[_]test[_]%' AND g.name > @name
          AND PARSENAME(g.target, 2) = N'sqlkmeans_self_test'
        ORDER BY g.name;
        IF @statement IS NULL
            BREAK;
        BEGIN TRY
            EXECUTE sqlkmeans.drop_segmentation
                @segmentation = @name, @drop_target = 1, @quiet = 1;
        END TRY
        BEGIN CATCH
            IF XACT_STATE() <> 0
                ROLLBACK TRANSACTION;
            SET @problem = COALESCE(@problem + NCHAR(10), N'') + @name + N': ' + ERROR_MESSAGE();
        END CATCH;
    END;

    INSERT INTO #sqlkmeans_leftover (statement)
    SELECT N'DROP ' + CASE RTRIM(o.type) WHEN N'V' THEN N'VIEW' ELSE N'TABLE' END + N' IF EXISTS '
        + QUOTENAME(s.name) + N'.' + QUOTENAME(o.name) + N';'
    FROM sys.objects AS o
    INNER JOIN sys.schemas AS s ON s.schema_id = o.schema_id
    WHERE s.name IN (N'sqlkmeans_self_test', N'sqlkmeans_self_test_other')
      AND RTRIM(o.type) IN (N'U', N'V')
    -- Our mark last, so that what is left by a call cut short is still known as ours.
    ORDER BY CASE WHEN RTRIM(o.type) = N'V' THEN 1 WHEN o.name = N'made_by_self_test' THEN 3 ELSE 2 END,
        o.name;
    -- Where drop_segmentation was cut short, too.
    INSERT INTO #sqlkmeans_leftover (statement)
    SELECT N'DROP FUNCTION IF EXISTS sqlkmeans.' + QUOTENAME(o.name) + N';'
    FROM sys.objects AS o
    WHERE o.schema_id = SCHEMA_ID(N'sqlkmeans') AND RTRIM(o.type) IN (N'IF', N'TF', N'FN')
      AND (o.name LIKE N'assign[_]sqlkmeans[_]self[_]test[_]%'
           OR o.name LIKE N'explain[_]sqlkmeans[_]self[_]test[_]%')
      AND NOT EXISTS (SELECT 1 FROM sqlkmeans.segmentation AS g
                      WHERE o.name IN (N'assign_' + g.name, N'explain_' + g.name))
    ORDER BY o.name;
    INSERT INTO #sqlkmeans_leftover (statement)
    SELECT N'DROP SCHEMA ' + QUOTENAME(s.name) + N';'
    FROM sys.schemas AS s
    WHERE s.name IN (N'sqlkmeans_self_test', N'sqlkmeans_self_test_other')
    ORDER BY s.name DESC;
    INSERT INTO #sqlkmeans_leftover (statement)
    SELECT N'DROP USER ' + QUOTENAME(p.name) + N';'
    FROM sys.database_principals AS p
    WHERE p.name IN (N'sqlkmeans_self_test_reader', N'sqlkmeans_self_test_operator',
                     N'sqlkmeans_self_test_admin', N'sqlkmeans_self_test_nobody',
                     N'sqlkmeans_self_test_visitor')
    ORDER BY p.name;

    WHILE EXISTS (SELECT 1 FROM #sqlkmeans_leftover AS l WHERE l.position > @position)
    BEGIN
        SET @position = @position + 1;
        SELECT @statement = l.statement FROM #sqlkmeans_leftover AS l WHERE l.position = @position;
        BEGIN TRY
            EXECUTE (@statement);
        END TRY
        BEGIN CATCH
            SET @problem = COALESCE(@problem + NCHAR(10), N'') + @statement + N' ' + ERROR_MESSAGE();
        END CATCH;
    END;
END;
GO

-- procedures/self_test_check.sql
IF OBJECT_ID(N'sqlkmeans.self_test_check', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.self_test_check AS RETURN 0;');
GO
-- Makes one check of the caller's #sqlkmeans_check, and writes there what came out. Raises nothing:
-- one failure must not hide the others.
ALTER PROCEDURE sqlkmeans.self_test_check
    @position int
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    DECLARE @name nvarchar(200);
    DECLARE @person nvarchar(20);
    DECLARE @expected nvarchar(200);
    DECLARE @statement nvarchar(max);
    DECLARE @missing nvarchar(200);
    DECLARE @wrong bigint = 0;
    DECLARE @detail nvarchar(max);
    DECLARE @ok bit;
    DECLARE @message nvarchar(400);
    DECLARE @begun datetime2(6) = SYSUTCDATETIME();

    SELECT @name = c.name, @person = c.person, @expected = c.expected, @statement = c.statement
    FROM #sqlkmeans_check AS c
    WHERE c.position = @position;
    SELECT TOP (1) @missing = n.name
    FROM #sqlkmeans_check AS c
    INNER JOIN #sqlkmeans_check AS n ON c.needs LIKE N'%,' + n.name + N',%'
    WHERE c.position = @position AND COALESCE(n.ok, 0) = 0
    ORDER BY n.position;

    IF @missing IS NOT NULL
        SET @detail = N'not here: needs ' + @missing;
    ELSE
    BEGIN
        IF @person IS NOT NULL
            SET @statement = N'EXECUTE AS USER = N''sqlkmeans_self_test_' + @person + N''';
BEGIN TRY
' + @statement + N'
REVERT;
END TRY
BEGIN CATCH
    IF XACT_STATE() <> 0
        ROLLBACK TRANSACTION;
    REVERT;
    THROW;
END CATCH;';
        BEGIN TRY
            EXECUTE sys.sp_executesql
                @statement, N'@wrong bigint OUTPUT, @detail nvarchar(max) OUTPUT',
                @wrong = @wrong OUTPUT, @detail = @detail OUTPUT;
            IF @detail LIKE N'not here: %'
                SET @ok = NULL;
            ELSE IF @expected IS NOT NULL
                SELECT @ok = 0, @detail = N'was not refused; expected: ' + @expected;
            ELSE
                SELECT @ok = CASE @wrong WHEN 0 THEN 1 ELSE 0 END,
                    @detail = COALESCE(
                        CASE WHEN @wrong <> 0 THEN CAST(@wrong AS nvarchar(20)) + N' wrong; ' ELSE N'' END
                            + @detail,
                        CASE WHEN @wrong <> 0 THEN CAST(@wrong AS nvarchar(20)) + N' wrong'
                             WHEN @wrong IS NULL THEN N'gave no answer' END);
        END TRY
        BEGIN CATCH
            SET @detail = CAST(ERROR_NUMBER() AS nvarchar(20)) + N' ' + ERROR_MESSAGE();
            SET @ok = CASE WHEN @detail LIKE @expected THEN 1 ELSE 0 END;
            IF @ok = 0
                SET @detail = @detail + COALESCE(N' (' + ERROR_PROCEDURE() + N', line '
                    + CAST(ERROR_LINE() AS nvarchar(20)) + N')', N'')
                    + COALESCE(N'; expected: ' + @expected, N'');
            IF XACT_STATE() <> 0
                ROLLBACK TRANSACTION;
        END CATCH;
        IF @@TRANCOUNT > 0
            ROLLBACK TRANSACTION;
    END;

    UPDATE #sqlkmeans_check
    SET ok = @ok, detail = @detail,
        milliseconds = DATEDIFF(millisecond, @begun, SYSUTCDATETIME())
    WHERE position = @position;

    SET @message = CASE @ok WHEN 1 THEN N'ok   ' WHEN 0 THEN N'WRONG' ELSE N'-    ' END + N' ' + @name;
    RAISERROR (N'%s', 0, 1, @message) WITH NOWAIT;
END;
GO

-- procedures/self_test_engines.sql
IF OBJECT_ID(N'sqlkmeans.self_test_engines', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.self_test_engines AS RETURN 0;');
GO
-- Adds to the caller's #sqlkmeans_check: what a training run publishes, with each engine that this
-- server has, is what Python published of the same customers.
ALTER PROCEDURE sqlkmeans.self_test_engines
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    INSERT INTO #sqlkmeans_check (name, statement)
    VALUES
    (N'versions', N'
SELECT @detail = N''sqlkmeans '' + sqlkmeans.version() + N'', schema ''
    + CAST(MAX(v.version) AS nvarchar(10))
FROM sqlkmeans.schema_version AS v;'),
    (N'procedures run as the owner', N'
IF OBJECT_ID(N''sys.parameters'') IS NULL
    SET @detail = N''not here: this server has no EXECUTE AS'';
ELSE
    EXECUTE sqlkmeans.as_owner
        @statement = N''SET @written = CASE USER_NAME() WHEN N''''dbo'''' THEN 0 ELSE 1 END;'',
        @written = @wrong OUTPUT;'),
    (N'customers', N'
CREATE TABLE sqlkmeans_self_test.customer
(
    customer_id bigint   NOT NULL PRIMARY KEY,
    income      float    NULL,
    orders      int      NOT NULL,
    city        char(10) NOT NULL
);
INSERT INTO sqlkmeans_self_test.customer (customer_id, income, orders, city)
SELECT c.customer_id, c.income, c.orders, c.city FROM sqlkmeans.self_test_customers() AS c;
SELECT @wrong = 300 - COUNT_BIG(*) FROM sqlkmeans_self_test.customer AS c;'),
    (N'external scripts', N'
IF OBJECT_ID(N''sys.sp_execute_external_script'') IS NULL
    SET @detail = N''not here: this server runs no external scripts'';
ELSE IF NOT EXISTS (SELECT 1 FROM sys.configurations AS c
                    WHERE c.name = N''external scripts enabled'' AND CAST(c.value_in_use AS int) = 1)
    SET @detail = N''not here: external scripts are off (docs/deploy.md)'';
ELSE
BEGIN
    DECLARE @version nvarchar(200);
    EXECUTE sys.sp_execute_external_script
        @language = N''Python'',
        @script = N''
try:
    import sqlkmeans
    version = sqlkmeans.__version__
except ImportError:
    version = ""
'',
        @params = N''@version nvarchar(200) OUTPUT'',
        @version = @version OUTPUT;
    SET @detail = N''the package is '' + @version;
    IF @version = N''''
        SET @detail = N''not here: the Python of this server has no package sqlkmeans (docs/deploy.md)'';
    ELSE IF @version <> sqlkmeans.version()
        SET @wrong = 1;
END;');

    INSERT INTO #sqlkmeans_check (name, needs, statement)
    SELECT REPLACE(c.name, N'{engine}', e.engine), e.needs, REPLACE(c.statement, N'{engine}', e.engine)
    FROM (VALUES (1, N'tsql', N',customers,'),
                 (2, N'in_database', N',customers,external scripts,')) AS e (position, engine, needs)
    CROSS JOIN (VALUES
    (1, N'define, for {engine}', N'
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N''sqlkmeans_self_test_{engine}'', @source = N''sqlkmeans_self_test.customer'',
    @key = N''customer_id'', @features = N''["income", {"column": "orders", "transform": "log1p", "weight": 2}, {"column": "city", "type": "category"}]'',
    @k = 3, @target = N''sqlkmeans_self_test.segment_{engine}'', @missing = N''mean'', @n_init = 2,
    @engine = N''{engine}'', @quiet = 1;
SELECT @wrong = 1 - COUNT_BIG(*) FROM sqlkmeans.segmentation AS g
WHERE g.name = N''sqlkmeans_self_test_{engine}'' AND ISJSON(g.definition) = 1;'),
    (2, N'train with {engine}', N'
EXECUTE sqlkmeans.run_segmentation
    @segmentation = N''sqlkmeans_self_test_{engine}'', @engine = N''{engine}'', @quiet = 1;
SELECT @wrong = 1 - COUNT_BIG(*) FROM sqlkmeans.run AS r
WHERE r.segmentation = N''sqlkmeans_self_test_{engine}'' AND r.status = N''published''
  AND r.[rows] = 300 AND r.arrived = 300;'),
    (3, N'labels of {engine} are those of Python', N'
SELECT @wrong = COUNT_BIG(*)
FROM sqlkmeans.self_test_customers() AS c
FULL JOIN sqlkmeans_self_test.segment_{engine} AS s ON s.customer_id = c.customer_id
WHERE c.segment_id IS NULL OR s.segment_id IS NULL OR s.segment_id <> c.segment_id;'),
    (4, N'centroids of {engine} are those of Python', N'
SELECT @wrong = SUM(CASE WHEN ABS(c.scaled_value - r.scaled_value) <= 1e-9 THEN 0 ELSE 1 END),
    @detail = N''largest difference '' + LTRIM(RTRIM(CONVERT(nvarchar(40), MAX(ABS(c.scaled_value - r.scaled_value)), 3)))
FROM (SELECT m.segment_id, m.position, m.scaled_value,
          RTRIM(m.feature) + N''.'' COLLATE Latin1_General_100_BIN2 AS feature
      FROM sqlkmeans.centroid AS m
      INNER JOIN sqlkmeans.segmentation AS g ON g.active_run_id = m.run_id
      WHERE g.name = N''sqlkmeans_self_test_{engine}'') AS c
FULL JOIN (SELECT k.segment_id, k.position, k.scaled_value,
               k.feature + N''.'' COLLATE Latin1_General_100_BIN2 AS feature
           FROM sqlkmeans.self_test_record() AS k
           WHERE k.segment_id > 0) AS r
    ON r.segment_id = c.segment_id AND r.position = c.position AND r.feature = c.feature;'),
    (5, N'inertia of {engine} is that of Python', N'
SELECT @wrong = SUM(CASE WHEN ABS(r.inertia - k.scaled_value) <= 1e-9 * k.scaled_value THEN 0 ELSE 1 END),
    @detail = N''difference '' + LTRIM(RTRIM(CONVERT(nvarchar(40), MAX(ABS(r.inertia - k.scaled_value)), 3)))
FROM sqlkmeans.self_test_record() AS k
LEFT JOIN sqlkmeans.run AS r
    ON r.segmentation = N''sqlkmeans_self_test_{engine}'' AND r.status = N''published''
WHERE k.segment_id = 0;'),
    (6, N'the function of {engine} says what the table says, for each row', N'
SELECT @wrong = COUNT_BIG(*)
FROM sqlkmeans_self_test.customer AS c
LEFT JOIN sqlkmeans_self_test.segment_{engine} AS s ON s.customer_id = c.customer_id
OUTER APPLY sqlkmeans.assign_sqlkmeans_self_test_{engine}(c.income, c.orders, c.city) AS f
WHERE s.segment_id IS NULL OR f.segment_id IS NULL OR f.segment_id <> s.segment_id
   OR ABS(f.distance - s.distance) > 1e-9 OR f.runner_up_distance <= f.distance;'),
    (7, N'a char(10) category is learnt to the letter by {engine}', N'
SELECT @wrong = 4 - COUNT_BIG(*)
FROM sqlkmeans.model_feature AS f
INNER JOIN sqlkmeans.segmentation AS g ON g.active_run_id = f.run_id
WHERE g.name = N''sqlkmeans_self_test_{engine}'' AND f.type = N''category''
  AND LEN(f.level + N''.'') = 11;')
    ) AS c (position, name, statement)
    ORDER BY e.position, c.position;
END;
GO

-- procedures/self_test_jobs.sql
IF OBJECT_ID(N'sqlkmeans.self_test_jobs', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.self_test_jobs AS RETURN 0;');
GO
-- Adds to the caller's #sqlkmeans_check: the nights after the first run, from changed customers to a
-- cancelled call. Each goes on from where the one before it ended.
ALTER PROCEDURE sqlkmeans.self_test_jobs
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    INSERT INTO #sqlkmeans_check (name, expected, statement)
    VALUES
    (N'the view with names', NULL, N'
SELECT @wrong = COUNT_BIG(*)
FROM sqlkmeans.segment_summary AS s
FULL JOIN (SELECT v.segment_id, v.segment_name, COUNT_BIG(*) AS size
           FROM sqlkmeans_self_test.segment_tsql_named AS v
           GROUP BY v.segment_id, v.segment_name) AS n
    ON n.segment_id = s.segment_id AND n.segment_name = s.segment_name AND n.size = s.size
WHERE s.segmentation = N''sqlkmeans_self_test_tsql'' AND (n.segment_id IS NULL OR s.segment_id IS NULL);'),
    (N'assign after changes', NULL, N'
INSERT INTO sqlkmeans_self_test.customer (customer_id, income, orders, city)
VALUES (9007199254750000, 160500, 121, ''Stavanger'');
UPDATE sqlkmeans_self_test.customer SET income = 90100, orders = 31, city = ''Bergen''
WHERE customer_id = 9007199254740994;
DELETE FROM sqlkmeans_self_test.customer WHERE customer_id = 9007199254740995;
EXECUTE sqlkmeans.assign_segments @segmentation = N''sqlkmeans_self_test_tsql'', @quiet = 1;
SELECT @wrong = 1 - COUNT_BIG(*) FROM sqlkmeans.run AS r
WHERE r.segmentation = N''sqlkmeans_self_test_tsql'' AND r.kind = N''assign'' AND r.status = N''published''
  AND r.arrived = 1 AND r.moved = 1 AND r.departed = 1;'),
    (N'history as of the first run', NULL, N'
DECLARE @then datetime2(6);
SELECT @then = MIN(r.published_at) FROM sqlkmeans.run AS r
WHERE r.segmentation = N''sqlkmeans_self_test_tsql'';
SELECT @wrong = COUNT_BIG(*)
FROM sqlkmeans.self_test_customers() AS c
FULL JOIN (SELECT h.customer_id, h.segment_id
           FROM sqlkmeans_self_test.segment_tsql_history AS h
           WHERE h.valid_from <= @then AND (h.valid_to IS NULL OR h.valid_to > @then)) AS s
    ON s.customer_id = c.customer_id
WHERE c.segment_id IS NULL OR s.segment_id IS NULL OR s.segment_id <> c.segment_id;'),
    (N'who moved', NULL, N'
SELECT @wrong = 3 - COALESCE(SUM(m.customers), 0)
FROM sqlkmeans.segment_movement AS m
WHERE m.segmentation = N''sqlkmeans_self_test_tsql''
  AND m.from_run_id = (SELECT MIN(r.run_id) FROM sqlkmeans.run AS r
                       WHERE r.segmentation = N''sqlkmeans_self_test_tsql'')
  AND m.to_run_id = (SELECT MAX(r.run_id) FROM sqlkmeans.run AS r
                     WHERE r.segmentation = N''sqlkmeans_self_test_tsql'')
  AND COALESCE(m.from_segment_id, 0) <> COALESCE(m.to_segment_id, 0);'),
    (N'rename', NULL, N'
EXECUTE sqlkmeans.rename_segment
    @segmentation = N''sqlkmeans_self_test_tsql'', @segment_id = 3, @name = N''Größte ''''Käufer'''''';
SELECT @wrong = 2 - COUNT_BIG(*)
FROM (SELECT DISTINCT v.segment_name FROM sqlkmeans_self_test.segment_tsql_named AS v
      WHERE v.segment_id = 3
      UNION ALL
      SELECT f.segment_name
      FROM sqlkmeans.assign_sqlkmeans_self_test_tsql(160500e0, 121, ''Stavanger'') AS f) AS n
WHERE n.segment_name = N''Größte ''''Käufer'''''';'),
    (N'rollback to the first run', NULL, N'
DECLARE @first bigint;
SELECT @first = MIN(r.run_id) FROM sqlkmeans.run AS r
WHERE r.segmentation = N''sqlkmeans_self_test_tsql'';
EXECUTE sqlkmeans.rollback_segmentation
    @segmentation = N''sqlkmeans_self_test_tsql'', @run_id = @first, @quiet = 1;
SELECT @wrong = COUNT_BIG(*)
FROM sqlkmeans.self_test_customers() AS c
FULL JOIN sqlkmeans_self_test.segment_tsql AS s ON s.customer_id = c.customer_id
WHERE c.segment_id IS NULL OR s.segment_id IS NULL OR s.segment_id <> c.segment_id;'),
    (N'define it anew with a guard', NULL, N'
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N''sqlkmeans_self_test_tsql'', @source = N''sqlkmeans_self_test.customer'',
    @key = N''customer_id'', @features = N''["income", {"column": "orders", "transform": "log1p", "weight": 2}, {"column": "city", "type": "category"}]'',
    @k = 3, @target = N''sqlkmeans_self_test.segment_tsql'', @missing = N''mean'', @n_init = 2,
    @engine = N''tsql'', @guard = N''{"action": "refuse", "moved": 0.1}'', @quiet = 1;'),
    (N'a guard refuses what reshuffles the segments', N'50003 %moved: %', N'
DELETE FROM sqlkmeans_self_test.customer;
INSERT INTO sqlkmeans_self_test.customer (customer_id, income, orders, city)
SELECT CASE WHEN c.customer_id < 9007199254741143 THEN c.customer_id + 150 ELSE c.customer_id - 150 END,
    c.income, c.orders, c.city
FROM sqlkmeans.self_test_customers() AS c;
EXECUTE sqlkmeans.run_segmentation
    @segmentation = N''sqlkmeans_self_test_tsql'', @engine = N''tsql'', @quiet = 1;'),
    (N'what was refused changed nothing', NULL, N'
SELECT @wrong = COUNT_BIG(*)
FROM sqlkmeans.self_test_customers() AS c
FULL JOIN sqlkmeans_self_test.segment_tsql AS s ON s.customer_id = c.customer_id
WHERE c.segment_id IS NULL OR s.segment_id IS NULL OR s.segment_id <> c.segment_id;
SELECT @wrong = @wrong + 1 - COUNT_BIG(*) FROM sqlkmeans.run AS r
WHERE r.segmentation = N''sqlkmeans_self_test_tsql'' AND r.status = N''failed'';'),
    (N'ids and names stay when it trains again', NULL, N'
DELETE FROM sqlkmeans_self_test.customer;
INSERT INTO sqlkmeans_self_test.customer (customer_id, income, orders, city)
SELECT c.customer_id, c.income, c.orders, c.city FROM sqlkmeans.self_test_customers() AS c;
EXECUTE sqlkmeans.run_segmentation
    @segmentation = N''sqlkmeans_self_test_tsql'', @engine = N''tsql'', @quiet = 1;
SELECT @wrong = COUNT_BIG(*)
FROM sqlkmeans.self_test_customers() AS c
FULL JOIN sqlkmeans_self_test.segment_tsql_named AS s ON s.customer_id = c.customer_id
WHERE c.segment_id IS NULL OR s.segment_id IS NULL OR s.segment_id <> c.segment_id
   OR (s.segment_id = 3 AND s.segment_name <> N''Größte ''''Käufer'''''');'),
    (N'a run that is killed', NULL, N'
EXECUTE sqlkmeans.start_run @segmentation = N''sqlkmeans_self_test_tsql'';
SELECT @wrong = 1 - COUNT_BIG(*)
FROM sqlkmeans.run AS r
WHERE r.segmentation = N''sqlkmeans_self_test_tsql'' AND r.status = N''running''
  AND OBJECT_ID(N''sqlkmeans.staging_'' + CAST(r.run_id AS nvarchar(20)), N''U'') IS NOT NULL;'),
    (N'a killed run is cleared away by the next', NULL, N'
DECLARE @killed bigint;
SELECT @killed = MAX(r.run_id) FROM sqlkmeans.run AS r
WHERE r.segmentation = N''sqlkmeans_self_test_tsql'';
EXECUTE sqlkmeans.assign_segments @segmentation = N''sqlkmeans_self_test_tsql'', @quiet = 1;
SELECT @wrong = COUNT_BIG(*)
FROM sqlkmeans.run AS r
WHERE r.segmentation = N''sqlkmeans_self_test_tsql'' AND r.status = N''running'';
IF OBJECT_ID(N''sqlkmeans.staging_'' + CAST(@killed AS nvarchar(20)), N''U'') IS NOT NULL
    SET @wrong = @wrong + 1;'),
    (N'a lock that a cancelled call kept goes with the next', NULL, N'
EXECUTE sqlkmeans.take_lock @segmentation = N''sqlkmeans_self_test_tsql'';
EXECUTE sqlkmeans.assign_segments @segmentation = N''sqlkmeans_self_test_tsql'', @quiet = 1;
IF APPLOCK_MODE(N''sqlkmeans_operator'', sqlkmeans.lock_name(N''sqlkmeans_self_test_tsql''), N''Session'')
   <> N''NoLock''
    SET @wrong = 1;'),
    (N'no call inside a transaction', N'50002 %inside a transaction%', N'
BEGIN TRANSACTION;
EXECUTE sqlkmeans.assign_segments @segmentation = N''sqlkmeans_self_test_tsql'', @quiet = 1;'),
    (N'no call by INSERT EXECUTE', N'50002 %inside a transaction%', N'
DECLARE @answer table (answer bigint NULL);
INSERT INTO @answer (answer)
EXECUTE sqlkmeans.rollback_segmentation @segmentation = N''sqlkmeans_self_test_tsql'', @quiet = 1;'),
    (N'the job of SQL Server Agent', NULL, N'
IF CAST(SERVERPROPERTY(''EngineEdition'') AS int) = 4
    SET @detail = N''not here: Express has no Agent'';
ELSE IF OBJECT_ID(N''msdb.dbo.sp_add_job'', N''P'') IS NULL
    SET @detail = N''not here: this server has no Agent, or you may not use it'';
EXECUTE sqlkmeans.create_agent_job
    @segmentation = N''sqlkmeans_self_test_tsql'', @step = N''assign'', @execute = 0, @quiet = 1;');

    -- Expressions as many and as long as a model of such a size has.
    INSERT INTO #sqlkmeans_check (name, statement)
    SELECT N'k = ' + CAST(s.k AS nvarchar(10)) + N' over ' + CAST(s.features AS nvarchar(10))
            + N' log1p features: ' + c.name,
        REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(c.statement,
            N'{columns}', sqlkmeans.each_number(s.features, N'f{} float NOT NULL', N', ')),
            N'{values}', sqlkmeans.each_number(
                s.features, N'1000 + o.g * {} * 37 % 101 * 100 + o.n', N', ')),
            N'{features}', sqlkmeans.each_number(
                s.features, N'{"column": "f{}", "transform": "log1p"}', N', ')),
            N'{names}', sqlkmeans.each_number(s.features, N'c.f{}', N', ')),
            N'{k}', CAST(s.k AS nvarchar(10)))
    FROM (VALUES (10, 10), (20, 20)) AS s (k, features)
    CROSS JOIN (VALUES
    (1, N'define', N'
CREATE TABLE sqlkmeans_self_test.wide_{k} (customer_id int NOT NULL PRIMARY KEY, {columns});
INSERT INTO sqlkmeans_self_test.wide_{k}
SELECT c.customer_id - 9007199254740992, {values}
FROM sqlkmeans.self_test_customers() AS c
CROSS APPLY (SELECT CAST(c.customer_id % {k} AS int) AS g, CAST(c.customer_id % 7 AS float) AS n) AS o;
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N''sqlkmeans_self_test_wide_{k}'', @source = N''sqlkmeans_self_test.wide_{k}'',
    @key = N''customer_id'', @features = N''[{features}]'', @k = {k}, @n_init = 1, @engine = N''tsql'',
    @target = N''sqlkmeans_self_test.segment_wide_{k}'', @quiet = 1;'),
    (2, N'train', N'
EXECUTE sqlkmeans.run_segmentation @segmentation = N''sqlkmeans_self_test_wide_{k}'', @quiet = 1;'),
    (3, N'assign moves nobody', N'
EXECUTE sqlkmeans.assign_segments @segmentation = N''sqlkmeans_self_test_wide_{k}'', @quiet = 1;
SELECT @wrong = SUM(CASE WHEN r.moved = 0 THEN 0 ELSE 1 END)
FROM sqlkmeans.run AS r
WHERE r.segmentation = N''sqlkmeans_self_test_wide_{k}'' AND r.kind = N''assign'';'),
    (4, N'the function says what the table says', N'
SELECT @wrong = COUNT_BIG(*)
FROM sqlkmeans_self_test.wide_{k} AS c
LEFT JOIN sqlkmeans_self_test.segment_wide_{k} AS s ON s.customer_id = c.customer_id
OUTER APPLY sqlkmeans.assign_sqlkmeans_self_test_wide_{k}({names}) AS f
WHERE s.segment_id IS NULL OR f.segment_id IS NULL OR f.segment_id <> s.segment_id
   OR f.segment_name IS NULL OR ABS(f.distance - s.distance) > 1e-9;')
    ) AS c (position, name, statement)
    ORDER BY s.k, c.position;
END;
GO

-- procedures/self_test_refusals.sql
IF OBJECT_ID(N'sqlkmeans.self_test_refusals', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.self_test_refusals AS RETURN 0;');
GO
-- Adds to the caller's #sqlkmeans_check: names that need their brackets work, and definitions that
-- would harm somebody are refused.
ALTER PROCEDURE sqlkmeans.self_test_refusals
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    INSERT INTO #sqlkmeans_check (name, statement)
    VALUES (N'brackets and quotes in names', N'
-- A server that has no EXECUTE AS does not take such names either.
IF OBJECT_ID(N''sys.parameters'') IS NULL
    SET @detail = N''not here: this server takes no such names'';');

    INSERT INTO #sqlkmeans_check (name, needs, statement)
    SELECT n.name + c.name, n.needs,
        REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(REPLACE(c.statement,
            N'{segmentation}', n.segmentation),
            N'{source}', sqlkmeans.text_literal(N'sqlkmeans_self_test.' + QUOTENAME(n.[table]))),
            N'{target}', sqlkmeans.text_literal(N'sqlkmeans_self_test.' + QUOTENAME(n.[table] + N' labels'))),
            N'{keys}', sqlkmeans.text_literal(N'[' + sqlkmeans.json_text(n.[key]) + N']')),
            N'{features}', sqlkmeans.text_literal(N'[' + sqlkmeans.json_text(n.feature) + N', "orders"]')),
            N'{table}', QUOTENAME(n.[table])),
            N'{named}', QUOTENAME(n.[table] + N' labels_named')),
            N'{key}', QUOTENAME(n.[key])),
            N'{feature}', QUOTENAME(n.feature))
    FROM (VALUES
        (1, N'blanks and letters of other alphabets: ', NULL, N'sqlkmeans_self_test_unicode',
            N'käufer in übersicht', N'kunden nr', N'umsätze €'),
        (2, N'brackets and quotes: ', N',brackets and quotes in names,', N'sqlkmeans_self_test_quotes',
            N'Käufer ]''"x', N'Kunden-Nr. ]''"', N'Umsatz € ]''"')
    ) AS n (position, name, needs, segmentation, [table], [key], feature)
    CROSS JOIN (VALUES
    (1, N'define', N'
CREATE TABLE sqlkmeans_self_test.{table} ({key} bigint NOT NULL PRIMARY KEY, {feature} float NOT NULL, orders int NOT NULL);
INSERT INTO sqlkmeans_self_test.{table}
SELECT c.customer_id, COALESCE(c.income, 40000), c.orders FROM sqlkmeans.self_test_customers() AS c;
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N''{segmentation}'', @source = {source}, @key = {keys}, @features = {features},
    @k = 3, @n_init = 2, @target = {target}, @engine = N''tsql'', @quiet = 1;'),
    (2, N'train', N'
EXECUTE sqlkmeans.run_segmentation @segmentation = N''{segmentation}'', @quiet = 1;'),
    (3, N'assign', N'
EXECUTE sqlkmeans.assign_segments @segmentation = N''{segmentation}'', @quiet = 1;'),
    (4, N'the view and the function say what Python says', N'
SELECT @wrong = COUNT_BIG(*)
FROM sqlkmeans.self_test_customers() AS c
INNER JOIN sqlkmeans_self_test.{table} AS x ON x.{key} = c.customer_id
LEFT JOIN sqlkmeans_self_test.{named} AS s ON s.{key} = c.customer_id
OUTER APPLY sqlkmeans.assign_{segmentation}(x.{feature}, x.orders) AS f
WHERE s.segment_id IS NULL OR f.segment_id IS NULL OR s.segment_id <> c.segment_id
   OR f.segment_id <> c.segment_id;')
    ) AS c (position, name, statement)
    ORDER BY n.position, c.position;

    INSERT INTO #sqlkmeans_check (name, expected, statement)
    VALUES
    (N'names that differ in case only', NULL, N'
IF N''a'' = N''A''
    SET @detail = N''not here: this database does not tell cases apart'';
ELSE IF OBJECT_ID(N''sys.parameters'') IS NULL
    SET @detail = N''not here: this server does not tell cases of names apart'';
ELSE
BEGIN
    EXECUTE (N''CREATE TABLE sqlkmeans_self_test.Mixed (Id int NOT NULL PRIMARY KEY, Income float NOT NULL, income float NOT NULL);
INSERT INTO sqlkmeans_self_test.Mixed SELECT c.customer_id - 9007199254740992, COALESCE(c.income, 40000), c.orders FROM sqlkmeans.self_test_customers() AS c;'');
    EXECUTE sqlkmeans.define_segmentation
        @segmentation = N''sqlkmeans_self_test_Case'', @source = N''sqlkmeans_self_test.Mixed'', @key = N''Id'',
        @features = N''Income, income'', @k = 3, @n_init = 2, @engine = N''tsql'',
        @target = N''sqlkmeans_self_test.Mixed_Labels'', @quiet = 1;
    EXECUTE sqlkmeans.run_segmentation @segmentation = N''sqlkmeans_self_test_Case'', @quiet = 1;
    EXECUTE sys.sp_executesql
        N''SELECT @wrong = COUNT_BIG(*) FROM sqlkmeans.self_test_customers() AS c LEFT JOIN sqlkmeans_self_test.Mixed_Labels AS s ON s.Id = c.customer_id - 9007199254740992 WHERE s.segment_id IS NULL OR s.segment_id <> c.segment_id;'',
        N''@wrong bigint OUTPUT'', @wrong = @wrong OUTPUT;
END;'),
    (N'somebody else''s tables', NULL, N'
EXECUTE (N''CREATE VIEW sqlkmeans_self_test.somebodys_view AS SELECT 1 AS customer_id;'');
CREATE TABLE sqlkmeans_self_test.somebodys (customer_id bigint NOT NULL PRIMARY KEY, segment_id int NOT NULL,
    distance float NOT NULL, is_outlier bit NOT NULL, run_id bigint NOT NULL, assigned_at datetime2(6) NOT NULL);
CREATE TABLE sqlkmeans_self_test.mine_history (customer_id bigint NOT NULL);
INSERT INTO sqlkmeans_self_test.mine_history (customer_id) VALUES (1);'),
    (N'every problem of a definition at once', N'50002 %@k: 1 given%@scaling: big given%', N'
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N''sqlkmeans_self_test_refused'', @source = N''sqlkmeans_self_test.customer'', @key = N''customer_id'',
    @features = N''income'', @k = 1, @scaling = N''big'', @target = N''sqlkmeans_self_test.refused'', @quiet = 1;'),
    (N'no second statement in a source', N'50002 %semicolon%', N'
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N''sqlkmeans_self_test_refused'', @source = N''SELECT customer_id, income FROM sqlkmeans_self_test.customer; DROP TABLE sqlkmeans_self_test.customer'',
    @key = N''customer_id'', @features = N''income'', @k = 2, @target = N''sqlkmeans_self_test.refused'', @quiet = 1;'),
    (N'a trigger on a target is not run as the owner', N'50002 %has the trigger %', N'
EXECUTE (N''CREATE TRIGGER sqlkmeans_self_test.somebodys_trigger ON sqlkmeans_self_test.segment_tsql AFTER INSERT AS SET NOCOUNT ON;'');
BEGIN TRY
    EXECUTE sqlkmeans.assign_segments @segmentation = N''sqlkmeans_self_test_tsql'', @quiet = 1;
    EXECUTE (N''DROP TRIGGER sqlkmeans_self_test.somebodys_trigger;'');
END TRY
BEGIN CATCH
    EXECUTE (N''DROP TRIGGER sqlkmeans_self_test.somebodys_trigger;'');
    THROW;
END CATCH;'),
    (N'a table with keys that repeat', NULL, N'
CREATE TABLE sqlkmeans_self_test.twice (customer_id bigint NOT NULL, income float NULL);
INSERT INTO sqlkmeans_self_test.twice (customer_id, income)
SELECT c.customer_id, c.income FROM sqlkmeans.self_test_customers() AS c
UNION ALL SELECT c.customer_id, c.income FROM sqlkmeans.self_test_customers() AS c;
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N''sqlkmeans_self_test_twice'', @source = N''sqlkmeans_self_test.twice'', @key = N''customer_id'',
    @features = N''income'', @k = 2, @missing = N''mean'', @engine = N''tsql'',
    @target = N''sqlkmeans_self_test.segment_twice'', @quiet = 1;'),
    (N'a table with an income that is not known', NULL, N'
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N''sqlkmeans_self_test_missing'', @source = N''sqlkmeans_self_test.customer'', @key = N''customer_id'',
    @features = N''income'', @k = 2, @missing = N''error'', @engine = N''tsql'',
    @target = N''sqlkmeans_self_test.segment_missing'', @quiet = 1;'),
    (N'keys that repeat are told in words', N'50003 %key%', N'
EXECUTE sqlkmeans.run_segmentation @segmentation = N''sqlkmeans_self_test_twice'', @quiet = 1;'),
    (N'an income that is not known is told in words', N'50003 %income%', N'
EXECUTE sqlkmeans.run_segmentation @segmentation = N''sqlkmeans_self_test_missing'', @quiet = 1;');

    INSERT INTO #sqlkmeans_check (name, expected, statement)
    SELECT t.name, t.expected, N'
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N''sqlkmeans_self_test_refused'', @source = N''sqlkmeans_self_test.customer'', @key = N''customer_id'',
    @features = N''orders'', @k = 2, @target = N''' + t.target + N''', @quiet = 1;'
    FROM (VALUES
        (1, N'a view is no target', N'sqlkmeans_self_test.somebodys_view', N'50002 %did not make it%'),
        (2, N'somebody else''s table is no target', N'sqlkmeans_self_test.somebodys',
            N'50002 %did not make it%'),
        (3, N'somebody else''s history is left alone', N'sqlkmeans_self_test.mine', N'50002 %did not make it%'),
        (4, N'the source is no target', N'sqlkmeans_self_test.customer', N'50002 %is the source itself%'),
        (5, N'another segmentation''s target is no target', N'sqlkmeans_self_test.segment_tsql',
            N'50002 %is the target of segmentation%')
    ) AS t (position, name, target, expected)
    ORDER BY t.position;
END;
GO

-- procedures/self_test_people.sql
IF OBJECT_ID(N'sqlkmeans.self_test_people', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.self_test_people AS RETURN 0;');
GO
-- Adds to the caller's #sqlkmeans_check: what each role may do and may not (docs/deploy.md has the same
-- table), with users without a login.
ALTER PROCEDURE sqlkmeans.self_test_people
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    INSERT INTO #sqlkmeans_check (name, needs, statement)
    VALUES
    (N'users', N',customers,', N'
IF OBJECT_ID(N''sys.parameters'') IS NULL
    SET @detail = N''not here: this server has no EXECUTE AS'';
ELSE
BEGIN
    EXECUTE (N''
CREATE USER sqlkmeans_self_test_nobody WITHOUT LOGIN;
CREATE USER sqlkmeans_self_test_reader WITHOUT LOGIN;
CREATE USER sqlkmeans_self_test_operator WITHOUT LOGIN;
CREATE USER sqlkmeans_self_test_visitor WITHOUT LOGIN;
CREATE USER sqlkmeans_self_test_admin WITHOUT LOGIN;'');
    ALTER ROLE sqlkmeans_reader ADD MEMBER sqlkmeans_self_test_reader;
    ALTER ROLE sqlkmeans_operator ADD MEMBER sqlkmeans_self_test_operator;
    ALTER ROLE sqlkmeans_operator ADD MEMBER sqlkmeans_self_test_visitor;
    ALTER ROLE sqlkmeans_admin ADD MEMBER sqlkmeans_self_test_admin;
    GRANT SELECT ON sqlkmeans_self_test.customer TO sqlkmeans_self_test_operator, sqlkmeans_self_test_admin;
    CREATE TABLE sqlkmeans_self_test.secret (customer_id bigint NOT NULL PRIMARY KEY, income float NULL,
        orders int NOT NULL, city char(10) NOT NULL);
    INSERT INTO sqlkmeans_self_test.secret (customer_id, income, orders, city)
    SELECT c.customer_id, c.income, c.orders, c.city FROM sqlkmeans.self_test_customers() AS c;
    EXECUTE (N''CREATE SCHEMA sqlkmeans_self_test_other AUTHORIZATION sqlkmeans_self_test_operator;'');
END;'),
    (N'a masked column', N',users,', N'
EXECUTE (N''CREATE TABLE sqlkmeans_self_test.masked (customer_id bigint NOT NULL PRIMARY KEY,
    income float MASKED WITH (FUNCTION = ''''default()'''') NOT NULL, orders int NOT NULL);
GRANT SELECT ON sqlkmeans_self_test.masked TO sqlkmeans_self_test_admin;'');');

    -- The last columns: nobody, reader, operator, admin. 229 is "permission denied".
    INSERT INTO #sqlkmeans_check (name, needs, person, expected, statement)
    SELECT p.person + N': ' + a.action, N',users,', p.person,
        CASE SUBSTRING(a.may, p.position, 1) WHEN N'0' THEN N'229 %' END, a.statement
    FROM (VALUES
        (1, N'read segments and names', N'0111', N'
SELECT @wrong = 300 - COUNT_BIG(*) FROM sqlkmeans_self_test.segment_tsql_named AS v;'),
        (2, N'read histories', N'0111', N'
SELECT @wrong = 300 - COUNT_BIG(*) FROM sqlkmeans_self_test.segment_tsql_history AS h WHERE h.valid_to IS NULL;'),
        (3, N'read runs and models', N'0111', N'
SELECT @wrong = CASE WHEN COUNT_BIG(*) = 0 THEN 1 ELSE 0 END FROM sqlkmeans.run_log AS r
WHERE r.segmentation = N''sqlkmeans_self_test_tsql'';'),
        (4, N'score with the function', N'0111', N'
SELECT @wrong = 3 - f.segment_id
FROM sqlkmeans.assign_sqlkmeans_self_test_tsql(160500e0, 121, N''Stavanger'') AS f;'),
        (5, N'assign', N'0011', N'
EXECUTE sqlkmeans.assign_segments @segmentation = N''sqlkmeans_self_test_tsql'', @quiet = 1;'),
        (6, N'train with tsql', N'0011', N'
EXECUTE sqlkmeans.run_segmentation @segmentation = N''sqlkmeans_self_test_tsql'', @engine = N''tsql'', @quiet = 1;'),
        (7, N'rename', N'0011', N'
EXECUTE sqlkmeans.rename_segment @segmentation = N''sqlkmeans_self_test_tsql'', @segment_id = 1, @name = N''Sparer'';'),
        (8, N'roll back', N'0011', N'
EXECUTE sqlkmeans.rollback_segmentation @segmentation = N''sqlkmeans_self_test_tsql'', @quiet = 1;'),
        (9, N'define', N'0001', N'
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N''sqlkmeans_self_test_people'', @source = N''sqlkmeans_self_test.customer'', @key = N''customer_id'',
    @features = N''orders'', @k = 2, @target = N''sqlkmeans_self_test.segment_people'', @execute = 0, @quiet = 1;'),
        (10, N'purge', N'0001', N'
EXECUTE sqlkmeans.purge @segmentation = N''sqlkmeans_self_test_tsql'', @execute = 0, @quiet = 1;'),
        (11, N'drop a segmentation', N'0001', N'
EXECUTE sqlkmeans.drop_segmentation @segmentation = N''sqlkmeans_self_test_tsql'', @execute = 0, @quiet = 1;'),
        (12, N'make Agent jobs', N'0001', N'
EXECUTE sqlkmeans.create_agent_job @segmentation = N''sqlkmeans_self_test_tsql'', @step = N''assign'', @execute = 0, @quiet = 1;'),
        (13, N'write to a segment table', N'0000', N'
UPDATE sqlkmeans_self_test.segment_tsql SET segment_id = 1;'),
        (14, N'write to the tables of the schema', N'0000', N'
UPDATE sqlkmeans.segmentation SET target = target;'),
        (15, N'call the procedure that runs as the owner', N'0000', N'
EXECUTE sqlkmeans.as_owner @statement = N''SET @written = 0;'';'),
        (16, N'read a table that they have no SELECT on', N'0000', N'
SELECT @wrong = COUNT_BIG(*) FROM sqlkmeans_self_test.secret AS s;')
    ) AS a (position, action, may, statement)
    CROSS JOIN (VALUES (1, N'nobody'), (2, N'reader'), (3, N'operator'), (4, N'admin')) AS p (position, person)
    ORDER BY a.position, p.position;

    -- What the roles allow, and their checks do not.
    INSERT INTO #sqlkmeans_check (name, needs, person, expected, statement)
    VALUES
    (N'an operator without SELECT on the source cannot assign', N',users,', N'visitor', N'50002 %source%', N'
EXECUTE sqlkmeans.assign_segments @segmentation = N''sqlkmeans_self_test_tsql'', @quiet = 1;'),
    (N'an operator reads no table through a SELECT as source', N',users,', N'operator', N'50002 %source%', N'
DECLARE @definition nvarchar(max);
SELECT @definition = JSON_MODIFY(g.definition, ''$.source'', N''SELECT * FROM sqlkmeans_self_test.secret'')
FROM sqlkmeans.segmentation AS g WHERE g.name = N''sqlkmeans_self_test_tsql'';
EXECUTE sqlkmeans.run_segmentation
    @segmentation = N''sqlkmeans_self_test_tsql'', @definition = @definition, @engine = N''tsql'', @quiet = 1;'),
    (N'an operator changes no source', N',users,', N'operator', N'50002 %source, key or target%', N'
DECLARE @definition nvarchar(max);
SELECT @definition = JSON_MODIFY(g.definition, ''$.source'', N''SELECT * FROM sqlkmeans_self_test.customer'')
FROM sqlkmeans.segmentation AS g WHERE g.name = N''sqlkmeans_self_test_tsql'';
EXECUTE sqlkmeans.run_segmentation
    @segmentation = N''sqlkmeans_self_test_tsql'', @definition = @definition, @engine = N''tsql'', @quiet = 1;'),
    (N'an operator changes no target', N',users,', N'operator', N'50002 %source, key or target%', N'
DECLARE @definition nvarchar(max);
SELECT @definition = JSON_MODIFY(g.definition, ''$.target'', N''sqlkmeans_self_test.elsewhere'')
FROM sqlkmeans.segmentation AS g WHERE g.name = N''sqlkmeans_self_test_tsql'';
EXECUTE sqlkmeans.start_run @segmentation = N''sqlkmeans_self_test_tsql'', @definition = @definition;'),
    (N'an operator takes no source away from the server', N',users,', N'operator', N'50002 %engine (spark or another) is not the one that is registered%', N'
DECLARE @definition nvarchar(max);
SELECT @definition = JSON_MODIFY(g.definition, ''$.engine'', N''spark'')
FROM sqlkmeans.segmentation AS g WHERE g.name = N''sqlkmeans_self_test_tsql'';
EXECUTE sqlkmeans.start_run
    @segmentation = N''sqlkmeans_self_test_tsql'', @definition = @definition, @key_types = N''["bigint"]'';'),
    (N'an operator registers nothing', N',users,', N'operator', N'50002 %is not registered%', N'
DECLARE @definition nvarchar(max);
SELECT @definition = JSON_MODIFY(JSON_MODIFY(g.definition, ''$.target'', N''sqlkmeans_self_test.elsewhere''),
    ''$.name'', N''sqlkmeans_self_test_elsewhere'')
FROM sqlkmeans.segmentation AS g WHERE g.name = N''sqlkmeans_self_test_tsql'';
EXECUTE sqlkmeans.start_run @segmentation = N''sqlkmeans_self_test_elsewhere'', @definition = @definition;'),
    (N'an operator calls nothing inside a transaction', N',users,', N'operator', N'50002 %inside a transaction%', N'
BEGIN TRANSACTION;
EXECUTE sqlkmeans.assign_segments @segmentation = N''sqlkmeans_self_test_tsql'', @quiet = 1;'),
    (N'an admin defines nothing over a table without SELECT on it', N',users,', N'admin', N'50002 %source%', N'
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N''sqlkmeans_self_test_people'', @source = N''SELECT customer_id, orders FROM sqlkmeans_self_test.secret'',
    @key = N''customer_id'', @features = N''orders'', @k = 2, @target = N''sqlkmeans_self_test.segment_people'', @quiet = 1;'),
    (N'a column that is masked for them is not clustered', N',users,a masked column,', N'admin', N'50002 %income: is masked%', N'
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N''sqlkmeans_self_test_people'', @source = N''sqlkmeans_self_test.masked'', @key = N''customer_id'',
    @features = N''income, orders'', @k = 2, @target = N''sqlkmeans_self_test.segment_people'', @quiet = 1;'),
    (N'a schema that somebody else owns holds no target', N',users,', NULL, N'50002 %is owned by%', N'
EXECUTE sqlkmeans.define_segmentation
    @segmentation = N''sqlkmeans_self_test_people'', @source = N''sqlkmeans_self_test.customer'', @key = N''customer_id'',
    @features = N''orders'', @k = 2, @target = N''sqlkmeans_self_test_other.segment'', @quiet = 1;'),
    (N'nobody holds a lock', N',users,', N'nobody', NULL, N'
DECLARE @result int = -999;
BEGIN TRY
    EXECUTE @result = sys.sp_getapplock
        @Resource = N''sqlkmeans self-test'', @LockMode = N''Exclusive'', @LockOwner = N''Session'',
        @LockTimeout = 1, @DbPrincipal = N''sqlkmeans_operator'';
END TRY
BEGIN CATCH
    SET @detail = ERROR_MESSAGE();
END CATCH;
IF @result >= 0
    SET @wrong = 1;'),
    (N'an operator trains with in_database', N',users,external scripts,', N'operator', NULL, N'
EXECUTE sqlkmeans.run_segmentation
    @segmentation = N''sqlkmeans_self_test_in_database'', @engine = N''in_database'', @quiet = 1;');
END;
GO

-- procedures/self_test_end.sql
IF OBJECT_ID(N'sqlkmeans.self_test_end', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.self_test_end AS RETURN 0;');
GO
-- Adds to the caller's #sqlkmeans_check: old runs go, and then the segmentation itself.
ALTER PROCEDURE sqlkmeans.self_test_end
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    INSERT INTO #sqlkmeans_check (name, statement)
    VALUES
    (N'purge deletes old runs and keeps the model', N'
UPDATE sqlkmeans.run SET finished_at = DATEADD(day, -400, finished_at)
WHERE segmentation = N''sqlkmeans_self_test_tsql'' AND status = N''failed'';
EXECUTE sqlkmeans.purge @segmentation = N''sqlkmeans_self_test_tsql'', @keep_days = 365, @quiet = 1;
SELECT @wrong = COUNT_BIG(*) FROM sqlkmeans.run AS r
WHERE r.segmentation = N''sqlkmeans_self_test_tsql'' AND r.status = N''failed'';
SELECT @wrong = @wrong + 3 - COUNT(DISTINCT c.segment_id)
FROM sqlkmeans.centroid AS c
INNER JOIN sqlkmeans.segmentation AS g ON g.active_run_id = c.run_id
WHERE g.name = N''sqlkmeans_self_test_tsql'';'),
    (N'drop leaves nothing', N'
EXECUTE sqlkmeans.drop_segmentation
    @segmentation = N''sqlkmeans_self_test_tsql'', @drop_target = 1, @quiet = 1;
SELECT @wrong = (SELECT COUNT_BIG(*) FROM sqlkmeans.run AS r
                 WHERE r.segmentation = N''sqlkmeans_self_test_tsql'')
    + (SELECT COUNT_BIG(*) FROM sqlkmeans.segmentation AS g WHERE g.name = N''sqlkmeans_self_test_tsql'')
    + (SELECT COUNT_BIG(*) FROM sys.objects AS o
       WHERE o.name IN (N''segment_tsql'', N''segment_tsql_history'', N''segment_tsql_named'')
         AND o.schema_id = SCHEMA_ID(N''sqlkmeans_self_test'')
          OR o.name = N''assign_sqlkmeans_self_test_tsql'' AND o.schema_id = SCHEMA_ID(N''sqlkmeans''));');
END;
GO

-- procedures/self_test.sql
IF OBJECT_ID(N'sqlkmeans.self_test', N'P') IS NULL
    EXECUTE (N'CREATE PROCEDURE sqlkmeans.self_test AS RETURN 0;');
GO
-- Tries everything on this server, in a schema, with users and segmentations of its own, and says what
-- came out: a row for each check, and then one line of JSON to send with a report of a bug.
ALTER PROCEDURE sqlkmeans.self_test
    @keep    bit = 0,
    @execute bit = 1,
    @help    bit = 0
AS
BEGIN
    SET NOCOUNT, XACT_ABORT ON;

    IF @help = 1
    BEGIN
        SELECT h.parameter, h.type, h.[default], h.meaning
        FROM (VALUES
            (1, N'@keep', N'bit', N'0',
                N'1 leaves what was made, to look at; the next self-test drops it.'),
            (2, N'@execute', N'bit', N'1', N'0 lists the checks and does nothing.'),
            (3, N'@help', N'bit', N'0', N'1 shows this list and does nothing else.')
        ) AS h (position, parameter, type, [default], meaning)
        ORDER BY h.position;
        RETURN 0;
    END;

    EXECUTE sqlkmeans.refuse_transaction;
    SET IMPLICIT_TRANSACTIONS OFF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    DECLARE @position int = 0;
    DECLARE @last int;
    DECLARE @problem nvarchar(max);

    -- A check is wrong where its statement counts something in @wrong, or raises; where a refusal is
    -- expected, it has to raise just that.
    CREATE TABLE #sqlkmeans_check
    (
        position     int IDENTITY (1, 1) NOT NULL PRIMARY KEY,
        name         nvarchar(200) COLLATE DATABASE_DEFAULT NOT NULL,
        needs        nvarchar(200) COLLATE DATABASE_DEFAULT NULL,
        person       nvarchar(20)  COLLATE DATABASE_DEFAULT NULL,
        expected     nvarchar(200) COLLATE DATABASE_DEFAULT NULL,
        statement    nvarchar(max) COLLATE DATABASE_DEFAULT NOT NULL,
        ok           bit           NULL,
        detail       nvarchar(max) COLLATE DATABASE_DEFAULT NULL,
        milliseconds int           NULL
    );
    EXECUTE sqlkmeans.self_test_engines;
    EXECUTE sqlkmeans.self_test_jobs;
    EXECUTE sqlkmeans.self_test_refusals;
    EXECUTE sqlkmeans.self_test_people;
    EXECUTE sqlkmeans.self_test_end;

    IF @execute = 0
    BEGIN
        SELECT c.name AS [check], c.statement FROM #sqlkmeans_check AS c ORDER BY c.position;
        RETURN 0;
    END;

    -- It makes a schema and users.
    IF COALESCE(IS_ROLEMEMBER(N'db_owner'), 0) = 0 AND USER_NAME() <> N'dbo'
        EXECUTE sqlkmeans.raise_problems @number = 50004,
            @problems = N'the self-test makes a schema and users, and drops them again: that takes db_owner';

    EXECUTE sqlkmeans.take_lock @segmentation = N'self-test';
    BEGIN TRY
        EXECUTE sqlkmeans.self_test_drop @problem = @problem OUTPUT;
        EXECUTE sqlkmeans.raise_problems @number = 50004, @problems = @problem;
        EXECUTE (N'CREATE SCHEMA sqlkmeans_self_test AUTHORIZATION dbo;');
        EXECUTE (N'CREATE TABLE sqlkmeans_self_test.made_by_self_test (nothing int NULL);');

        SELECT @last = MAX(c.position) FROM #sqlkmeans_check AS c;
        WHILE @position < @last
        BEGIN
            SET @position = @position + 1;
            EXECUTE sqlkmeans.self_test_check @position = @position;
        END;

        IF @keep = 0
            EXECUTE sqlkmeans.self_test_drop @problem = @problem OUTPUT;
        INSERT INTO #sqlkmeans_check (name, statement, ok, detail, milliseconds)
        VALUES (N'nothing is left', N'',
            CASE WHEN @keep = 1 THEN NULL WHEN @problem IS NULL THEN 1 ELSE 0 END,
            CASE WHEN @keep = 1 THEN N'kept, as asked for' ELSE @problem END, 0);
        EXECUTE sqlkmeans.take_lock @segmentation = N'self-test', @release = 1;
    END TRY
    BEGIN CATCH
        IF XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        IF @keep = 0
            EXECUTE sqlkmeans.self_test_drop @problem = @problem OUTPUT;
        EXECUTE sqlkmeans.take_lock @segmentation = N'self-test', @release = 1;
        THROW;
    END CATCH;

    SELECT c.name AS [check], c.ok, c.detail, c.milliseconds
    FROM #sqlkmeans_check AS c
    ORDER BY c.position;

    -- Put together by hand, because not every server nests JSON as such.
    DECLARE @report nvarchar(max) = (
        SELECT sqlkmeans.version() AS sqlkmeans,
            CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128)) AS version,
            CAST(SERVERPROPERTY('ProductUpdateLevel') AS nvarchar(128)) AS update_level,
            CAST(SERVERPROPERTY('Edition') AS nvarchar(128)) AS edition,
            CAST(SERVERPROPERTY('EngineEdition') AS int) AS engine_edition,
            CAST(SERVERPROPERTY('Collation') AS nvarchar(128)) AS server_collation,
            CAST(DATABASEPROPERTYEX(DB_NAME(), 'Collation') AS nvarchar(128)) AS collation,
            (SELECT d.compatibility_level FROM sys.databases AS d WHERE d.name = DB_NAME())
                AS compatibility_level,
            (SELECT COUNT(*) FROM #sqlkmeans_check AS c WHERE c.ok = 1) AS passed,
            (SELECT COUNT(*) FROM #sqlkmeans_check AS c WHERE c.ok IS NULL) AS not_here,
            (SELECT COUNT(*) FROM #sqlkmeans_check AS c WHERE c.ok = 0) AS failed
        FOR JSON PATH, WITHOUT_ARRAY_WRAPPER, INCLUDE_NULL_VALUES);
    DECLARE @results nvarchar(max) = (
        SELECT c.name AS [check], c.ok, c.detail, c.milliseconds
        FROM #sqlkmeans_check AS c
        ORDER BY c.position
        FOR JSON PATH, INCLUDE_NULL_VALUES);
    SELECT LEFT(@report, LEN(@report) - 1) + N',"results":' + @results + N'}' AS report;
END;
GO

-- views/run_log.sql
DROP VIEW IF EXISTS sqlkmeans.run_log;
GO
-- One row a run, with what people ask first: did it end well, how long did it take, what changed.
CREATE VIEW sqlkmeans.run_log
AS
SELECT
    r.run_id,
    r.segmentation,
    r.kind,
    r.status,
    r.engine,
    r.k,
    r.[rows],
    r.skipped,
    r.changed,
    r.arrived,
    r.moved,
    r.departed,
    r.written,
    r.inertia,
    r.silhouette,
    r.outliers,
    r.started_at,
    r.published_at,
    r.finished_at,
    DATEDIFF(second, r.started_at, COALESCE(r.finished_at, SYSUTCDATETIME())) AS seconds,
    r.model_run_id,
    r.restored_run_id,
    CASE WHEN r.run_id = g.active_run_id THEN 1 ELSE 0 END AS is_active_model,
    r.sqlkmeans_version,
    r.client,
    r.warnings,
    r.error
FROM sqlkmeans.run AS r
LEFT JOIN sqlkmeans.segmentation AS g ON g.name = r.segmentation;
GO

-- views/segment_summary.sql
DROP VIEW IF EXISTS sqlkmeans.segment_summary;
GO
-- The segments of every segmentation as they are published now. Names come from the active model,
-- sizes from the run that gave the labels.
CREATE VIEW sqlkmeans.segment_summary
AS
SELECT
    g.name AS segmentation,
    m.segment_id,
    m.name AS segment_name,
    COALESCE(s.description, m.description) AS description,
    COALESCE(s.size, m.size) AS size,
    COALESCE(s.share, m.share) AS share,
    COALESCE(s.within_ss, m.within_ss) AS within_ss,
    CASE WHEN s.run_id IS NULL THEN m.outliers ELSE s.outliers END AS outliers,
    l.run_id,
    g.active_run_id AS model_run_id,
    l.published_at
FROM sqlkmeans.segmentation AS g
INNER JOIN sqlkmeans.segment AS m ON m.run_id = g.active_run_id AND m.segment_id > 0
INNER JOIN sqlkmeans.run AS l
    ON l.segmentation = g.name
   AND l.published_at = (SELECT MAX(r.published_at) FROM sqlkmeans.run AS r
                         WHERE r.segmentation = g.name AND r.status = N'published')
LEFT JOIN sqlkmeans.segment AS s
    ON s.run_id = COALESCE(l.restored_run_id, l.run_id) AND s.segment_id = m.segment_id;
GO

-- views/segment_movement.sql
-- How many customers went from one segment to another between any two published runs; made anew
-- from the histories that there are, at each training run too. NULL as a segment: not there yet,
-- or not any more.
EXECUTE sqlkmeans.refresh_movement;
GO

-- roles/grants.sql
-- Last in the build order: views and functions that were made anew have lost their grants.
-- Procedures that are not granted here are reached only from those that are.
ALTER ROLE sqlkmeans_reader ADD MEMBER sqlkmeans_operator;
GO
ALTER ROLE sqlkmeans_operator ADD MEMBER sqlkmeans_admin;
GO
-- Tables, views and the functions that score a row.
GRANT SELECT ON SCHEMA::sqlkmeans TO sqlkmeans_reader;
GO
GRANT EXECUTE ON sqlkmeans.version TO sqlkmeans_reader;
GO
GRANT EXECUTE ON sqlkmeans.lock_segmentation TO sqlkmeans_operator;
GRANT EXECUTE ON sqlkmeans.unlock_segmentation TO sqlkmeans_operator;
GRANT EXECUTE ON sqlkmeans.start_run TO sqlkmeans_operator;
GRANT EXECUTE ON sqlkmeans.create_parts TO sqlkmeans_operator;
GRANT EXECUTE ON sqlkmeans.publish_run TO sqlkmeans_operator;
GRANT EXECUTE ON sqlkmeans.finish_choice TO sqlkmeans_operator;
GRANT EXECUTE ON sqlkmeans.fail_run TO sqlkmeans_operator;
GRANT EXECUTE ON sqlkmeans.assign_segments TO sqlkmeans_operator;
GRANT EXECUTE ON sqlkmeans.run_segmentation TO sqlkmeans_operator;
GRANT EXECUTE ON sqlkmeans.rollback_segmentation TO sqlkmeans_operator;
GRANT EXECUTE ON sqlkmeans.rename_segment TO sqlkmeans_operator;
GO
GRANT EXECUTE ON sqlkmeans.define_segmentation TO sqlkmeans_admin;
GRANT EXECUTE ON sqlkmeans.purge TO sqlkmeans_admin;
GRANT EXECUTE ON sqlkmeans.drop_segmentation TO sqlkmeans_admin;
GRANT EXECUTE ON sqlkmeans.create_agent_job TO sqlkmeans_admin;
GRANT EXECUTE ON sqlkmeans.drop_agent_job TO sqlkmeans_admin;
GO

SET NOEXEC OFF;
GO
