// purpose: Put tiles there as they were. A row: id, then by name what else a tile has.
// parameters: rows
// columns: tiles
UNWIND $rows AS row
MERGE (b:DistanceBlock {id: row[0]})
SET b += row[1]
RETURN count(b) AS tiles
