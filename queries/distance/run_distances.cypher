// purpose: The distances that Cypher can walk from the snapshots of a run.
// parameters: run
// columns: snapshot, other_snapshot, alignment, options, version, nnstd, layers, ambiguous
MATCH (a:Snapshot {run: $run})-[d:DISTANCE]->(b:Snapshot)
RETURN a.id AS snapshot, b.id AS other_snapshot, d.alignment AS alignment, d.options AS options, d.version AS version,
  d.nnstd AS nnstd, d.layers AS layers, d.ambiguous AS ambiguous
ORDER BY snapshot, other_snapshot, alignment, options
