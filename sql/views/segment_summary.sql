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
