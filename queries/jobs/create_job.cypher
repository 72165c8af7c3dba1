// purpose: Put a new job at the end of the queue.
// parameters: id, kind, request, runs, total, created_at
// columns: number
OPTIONAL MATCH (o:Job)
WITH coalesce(max(o.number) + 1, 0) AS number
CREATE (j:Job {id: $id, number: number, kind: $kind, request: $request, runs: $runs, status: 'queued', done: 0,
  total: $total, attempts: 0, created_at: $created_at})
RETURN j.number AS number
