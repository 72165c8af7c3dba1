// purpose: Take the lock of a job before it is changed. The time is that of the database, so that machines agree on it.
// parameters: id, token
// columns: id, number, kind, request, status, done, total, created_at, started_at, finished_at, error_code, error, media_type, bytes, parts, owner, lease_until, attempts, now
MATCH (j:Job {id: $id})
SET j.guard = $token
RETURN j.id AS id, j.number AS number, j.kind AS kind, j.request AS request, j.status AS status,
  j.done AS done, j.total AS total, j.created_at AS created_at, j.started_at AS started_at, j.finished_at AS finished_at,
  j.error_code AS error_code, j.error AS error, j.media_type AS media_type, j.bytes AS bytes, j.parts AS parts,
  j.owner AS owner, j.lease_until AS lease_until, j.attempts AS attempts, timestamp() AS now
