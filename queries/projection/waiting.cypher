// purpose: The runs whose connections wait and that nobody is at work on, those first that wait longest.
// parameters: none
// columns: run
MATCH (r:Run)
WHERE r.connections_wait IS NOT NULL AND r.removed_at IS NULL
  AND (r.drawn_until IS NULL OR r.drawn_until < timestamp())
RETURN r.id AS run
ORDER BY r.connections_wait, run
