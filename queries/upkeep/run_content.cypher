// purpose: What hangs on a run, before it is taken away.
// parameters: run
// columns: snapshots, lifetimes, digests
MATCH (r:Run {id: $run})
OPTIONAL MATCH (r)-[:HAS_SNAPSHOT]->(s:Snapshot)
WITH r, count(s) AS snapshots, collect(DISTINCT s.digest) AS digests
OPTIONAL MATCH (r)-[:HAS_LAYER]->(y:Layer)
RETURN snapshots, sum(y.lifetimes) AS lifetimes, digests
