// purpose: Jobs, the newest first, those that are older than one.
// parameters: before, limit
// columns: id, number, kind, request, status, done, total, created_at, started_at, finished_at, error_code, error, media_type, bytes, parts
MATCH (j:Job)
WHERE j.number < $before
RETURN j.id AS id, j.number AS number, j.kind AS kind, j.request AS request, j.status AS status,
  j.done AS done, j.total AS total, j.created_at AS created_at, j.started_at AS started_at, j.finished_at AS finished_at,
  j.error_code AS error_code, j.error AS error, j.media_type AS media_type, j.bytes AS bytes, j.parts AS parts
ORDER BY number DESC
LIMIT $limit
