// purpose: The jobs that are not done, the oldest first, and whether somebody works on each.
// parameters: none
// columns: id, number, lease_until, now
MATCH (j:Job)
WHERE j.status IN ['queued', 'running']
RETURN j.id AS id, j.number AS number, j.lease_until AS lease_until, timestamp() AS now
ORDER BY number
