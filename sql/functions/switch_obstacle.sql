IF OBJECT_ID(N'sqlkmeans.switch_obstacle', N'FN') IS NULL
    EXECUTE (N'CREATE FUNCTION sqlkmeans.switch_obstacle (@definition nvarchar(max))
        RETURNS nvarchar(400) AS BEGIN RETURN N''''; END;');
GO
-- Why a publication changes the segment table of a definition in place, however many labels are
-- new: the first reason of those below. NULL where the labels may come through a side table and
-- ALTER TABLE … SWITCH. Knows what the caller may see, so it is asked as the owner.
ALTER FUNCTION sqlkmeans.switch_obstacle (@definition nvarchar(max))
RETURNS nvarchar(400)
AS
BEGIN
    DECLARE @target nvarchar(1000) = JSON_VALUE(@definition, '$.target');
    DECLARE @id int = OBJECT_ID(sqlkmeans.quoted_name(@target, N''), N'U');
    DECLARE @keys int;

    IF @id IS NULL OR PARSENAME(@target, 3) <> DB_NAME()
        RETURN N'the segment table is not in this database';

    IF EXISTS (SELECT 1 FROM sys.databases AS d
               WHERE d.database_id = DB_ID() AND d.is_read_committed_snapshot_on = 1)
        RETURN N'READ_COMMITTED_SNAPSHOT is on: readers do not wait';
    -- A transaction in snapshot isolation that began before a switch, and reads the table after
    -- it, fails with error 3961.
    IF EXISTS (SELECT 1 FROM sys.databases AS d
               WHERE d.database_id = DB_ID() AND d.snapshot_isolation_state <> 0)
        RETURN N'ALLOW_SNAPSHOT_ISOLATION is on: a switch would make transactions in that isolation fail';
    -- There the lock of a switch waits for every query, and all later changes wait behind it.
    IF EXISTS (SELECT 1 FROM sys.databases AS d
               WHERE d.database_id = DB_ID() AND d.replica_id IS NOT NULL)
        RETURN N'the database is in an availability group: a switch could hold up a readable replica';

    IF EXISTS (SELECT 1 FROM sys.tables AS t
               WHERE t.object_id = @id
                 AND (t.is_memory_optimized = 1 OR t.temporal_type <> 0 OR t.is_filetable = 1
                      OR t.is_external = 1 OR t.uses_ansi_nulls = 0))
        RETURN N'the segment table is not an ordinary table';
    IF EXISTS (SELECT 1 FROM sys.tables AS t
               WHERE t.object_id = @id
                 AND (t.is_replicated = 1 OR t.is_merge_published = 1 OR t.is_tracked_by_cdc = 1))
       OR EXISTS (SELECT 1 FROM sys.change_tracking_tables AS k WHERE k.object_id = @id)
        RETURN N'the segment table is replicated, or its changes are captured or tracked';

    -- Key columns in their order, then those that create_segment_table adds, and none dropped.
    SELECT @keys = COUNT(*) FROM OPENJSON(@definition, '$.key') AS j;
    IF @keys <> (SELECT COUNT(*)
                 FROM OPENJSON(@definition, '$.key') AS j
                 INNER JOIN sys.columns AS c
                     ON c.object_id = @id AND c.column_id = CAST(j.[key] AS int) + 1
                    AND c.name = j.[value] COLLATE DATABASE_DEFAULT)
       OR 4 <> (SELECT COUNT(*)
                FROM sys.columns AS c
                INNER JOIN sys.types AS t ON t.user_type_id = c.user_type_id
                INNER JOIN (VALUES
                    (1, N'segment_id', N'int', 0),
                    (2, N'distance', N'float', 0),
                    (3, N'run_id', N'bigint', 0),
                    (4, N'assigned_at', N'datetime2', 6)
                ) AS m (position, name, type, scale)
                    ON m.position = c.column_id - @keys
                   AND m.name = c.name COLLATE DATABASE_DEFAULT
                   AND m.type = t.name COLLATE DATABASE_DEFAULT
                WHERE c.object_id = @id AND c.scale = m.scale)
       OR EXISTS (SELECT 1 FROM sys.columns AS c
                  WHERE c.object_id = @id
                    AND (c.column_id > @keys + 4 OR c.user_type_id <> c.system_type_id
                         OR c.is_nullable = 1 OR c.is_identity = 1 OR c.is_computed = 1
                         OR c.is_sparse = 1 OR c.is_rowguidcol = 1 OR c.is_masked = 1
                         OR c.generated_always_type <> 0 OR c.encryption_type IS NOT NULL))
        RETURN N'the columns of the segment table are not those that a first run makes';

    IF EXISTS (SELECT 1 FROM sys.indexes AS i
               WHERE i.object_id = @id
                 AND (i.type <> 1 OR i.is_primary_key = 0 OR i.is_disabled = 1
                      OR i.ignore_dup_key = 1))
       OR EXISTS (SELECT 1 FROM sys.fulltext_indexes AS f WHERE f.object_id = @id)
        RETURN N'the segment table has an index other than a clustered primary key';
    IF EXISTS (SELECT 1 FROM sys.index_columns AS x
               WHERE x.object_id = @id AND x.index_id = 1
                 AND (x.column_id <> x.key_ordinal OR x.is_descending_key = 1))
       OR @keys <> (SELECT COUNT(*) FROM sys.index_columns AS x
                    WHERE x.object_id = @id AND x.index_id = 1)
        RETURN N'the primary key of the segment table is not the key of the definition';
    IF EXISTS (SELECT 1
               FROM sys.indexes AS i
               INNER JOIN sys.data_spaces AS s ON s.data_space_id = i.data_space_id
               WHERE i.object_id = @id AND s.type <> N'FG')
        RETURN N'the segment table is partitioned';

    IF EXISTS (SELECT 1 FROM sys.triggers AS t WHERE t.parent_id = @id)
        RETURN N'the segment table has a trigger, which a switch would not fire';
    IF EXISTS (SELECT 1 FROM sys.foreign_keys AS f
               WHERE f.parent_object_id = @id OR f.referenced_object_id = @id)
       OR EXISTS (SELECT 1 FROM sys.check_constraints AS c WHERE c.parent_object_id = @id)
        RETURN N'the segment table has a check constraint, or a foreign key from or to it';
    IF EXISTS (SELECT 1 FROM sys.security_predicates AS p WHERE p.target_object_id = @id)
        RETURN N'the segment table has a security policy';
    IF EXISTS (SELECT 1 FROM sys.sql_expression_dependencies AS d
               WHERE d.referenced_id = @id AND d.is_schema_bound_reference = 1)
        RETURN N'a view or function is bound to the schema of the segment table';

    RETURN NULL;
END;
GO
