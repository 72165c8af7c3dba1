// purpose: The layers of a run, once, with its first snapshot. A row: name, position, source, target, n_source, n_target, taps, source_labelled, target_labelled, projection, and of how many of the newest snapshots the graph holds what lived in them (null: of all).
// parameters: run, rows
// columns: created
MATCH (r:Run {id: $run})
UNWIND $rows AS row
CREATE (r)-[:HAS_LAYER]->(y:Layer {id: $run + '/' + row[0], run: $run, name: row[0], position: row[1], source: row[2],
  target: row[3], n_source: row[4], n_target: row[5], taps: row[6], source_labelled: row[7], target_labelled: row[8],
  projection: row[9], projected_last: row[10]})
RETURN count(y) AS created
