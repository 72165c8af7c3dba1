// purpose: Distances that Cypher can walk. A row: snapshot, other snapshot, nnstd, distances of the layers, ambiguous units.
// parameters: alignment, options, version, rows
// columns: written
UNWIND $rows AS row
MATCH (a:Snapshot {id: row[0]})
MATCH (b:Snapshot {id: row[1]})
MERGE (a)-[d:DISTANCE {alignment: $alignment, options: $options}]->(b)
SET d.nnstd = row[2], d.layers = row[3], d.ambiguous = row[4], d.version = $version
RETURN count(d) AS written
