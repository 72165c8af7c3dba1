// purpose: The distance that Cypher can walk from one snapshot to another, if there is one.
// parameters: alignment, options, snapshot, other_snapshot
// columns: nnstd, version
MATCH (:Snapshot {id: $snapshot})-[d:DISTANCE {alignment: $alignment, options: $options}]->(:Snapshot {id: $other_snapshot})
RETURN d.nnstd AS nnstd, d.version AS version
