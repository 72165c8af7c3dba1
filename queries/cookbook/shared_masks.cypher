// title: Which masks are shared between runs?
// purpose: A mask is stored once whoever has it; here those that more than one run has.
// parameters: none
// columns: layer, connections, runs, snapshots
// example: {}
MATCH (r:Run)-[:HAS_SNAPSHOT]->(s:Snapshot)-[h:HAS_MASK]->(m:Mask)
WHERE r.removed_at IS NULL
WITH m, h.layer AS layer, s.run AS run, count(s) AS times
ORDER BY layer, run
WITH m, layer, collect(run) AS runs, sum(times) AS snapshots
WHERE size(runs) > 1
RETURN layer, m.nnz AS connections, runs, snapshots
ORDER BY snapshots DESC, layer, connections, runs
