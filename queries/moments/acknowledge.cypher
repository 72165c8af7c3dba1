// purpose: Let the clock go on by one and keep what a transaction changed, as its last statement, since others wait for the clock. A row: kind, run, step (null for none), details. Forget says that no earlier moment can be asked of any more.
// parameters: name, at, rows, forget
// columns: moment
MATCH (k:Clock {name: $name})
SET k.last = k.last + 1
SET k.earliest = CASE WHEN $forget THEN k.last ELSE k.earliest END
WITH k.last AS moment
UNWIND range(0, size($rows) - 1) AS place
WITH moment, place, $rows[place] AS row
CREATE (c:Change {moment: moment, place: place, at: $at, kind: row[0], run: row[1], details: row[3]})
SET c.step = row[2]
RETURN DISTINCT c.moment AS moment
