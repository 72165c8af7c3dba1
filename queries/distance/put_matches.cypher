// purpose: Which unit of another run is which. A row: unit, other unit, score, common connections.
// parameters: pair, snapshot, other_snapshot, digest, other_digest, alignment, version, rows
// columns: written
UNWIND $rows AS row
MATCH (a:Neuron {id: row[0]})
MATCH (b:Neuron {id: row[1]})
CREATE (a)-[m:MATCHES {pair: $pair, snapshot: $snapshot, other_snapshot: $other_snapshot, digest: $digest,
  other_digest: $other_digest, alignment: $alignment, version: $version, score: row[2], common: row[3]}]->(b)
RETURN count(m) AS written
