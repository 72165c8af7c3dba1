// purpose: The snapshot, its masks and its place in the run, after the snapshot before it where there is one. Masks: rows of layer name and mask digest.
// parameters: run, step, before, digest, nnz, epoch, recorded_at, metrics, masks
// columns: masks
MATCH (r:Run {id: $run})
CREATE (r)-[:HAS_SNAPSHOT]->(s:Snapshot {id: $run + '@' + toString($step), run: $run, step: $step, digest: $digest,
  nnz: $nnz, recorded_at: $recorded_at})
SET s += $metrics, s.epoch = $epoch, r.last_step = $step, r.last_digest = $digest,
  r.first_step = coalesce(r.first_step, $step)
WITH s
OPTIONAL MATCH (p:Snapshot {id: $before})
FOREACH (previous IN CASE WHEN p IS NULL THEN [] ELSE [p] END | CREATE (previous)-[:NEXT]->(s))
SET s.position = CASE WHEN $before IS NULL THEN 0 ELSE p.position + 1 END
WITH s
UNWIND $masks AS row
MATCH (m:Mask {digest: row[1]})
CREATE (s)-[h:HAS_MASK {layer: row[0]}]->(m)
RETURN count(h) AS masks
