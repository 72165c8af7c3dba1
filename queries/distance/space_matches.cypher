// purpose: The matches kept of the units of a space of a run, those of each two snapshots together. A unit: its id, that of the other, score, common connections.
// parameters: run, space
// columns: pair, snapshot, other_snapshot, digest, other_digest, alignment, version, units
MATCH (a:Neuron {run: $run, space: $space})-[m:MATCHES]->(b:Neuron)
USING INDEX SEEK a:Neuron(run, space)
WITH m, a, b ORDER BY a.index
RETURN m.pair AS pair, m.snapshot AS snapshot, m.other_snapshot AS other_snapshot, m.digest AS digest,
  m.other_digest AS other_digest, m.alignment AS alignment, m.version AS version,
  collect([a.id, b.id, m.score, m.common]) AS units
ORDER BY pair
