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
