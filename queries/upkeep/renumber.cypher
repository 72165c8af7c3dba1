// purpose: Give the snapshots of a run their places, where a missing one is given up. A row: id, place.
// parameters: rows
// columns: renumbered
UNWIND $rows AS row
MATCH (s:Snapshot {id: row[0]})
SET s.position = row[1]
RETURN count(s) AS renumbered
