// purpose: The wiring of a run whose layers' own properties do not say all of it, once, with its first snapshot. A row: layer, its groups (null for 1), the layer that it is tied with (null for none).
// parameters: run, wiring, rows
// columns: layers
MATCH (r:Run {id: $run})
SET r.wiring = $wiring
WITH r
UNWIND $rows AS row
MATCH (y:Layer {id: $run + '/' + row[0]})
SET y.groups = row[1], y.shared_with = row[2]
RETURN count(y) AS layers
