// purpose: Say how a job stands.
// parameters: id, status, done, total, started_at, finished_at, error_code, error, media_type, bytes, parts, owner, lease_until, attempts
// columns: id
MATCH (j:Job {id: $id})
SET j.status = $status, j.done = $done, j.total = $total, j.started_at = $started_at, j.finished_at = $finished_at,
  j.error_code = $error_code, j.error = $error, j.media_type = $media_type, j.bytes = $bytes, j.parts = $parts,
  j.owner = $owner, j.lease_until = $lease_until, j.attempts = $attempts
RETURN j.id AS id
