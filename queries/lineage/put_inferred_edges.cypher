// purpose: Store the edges of an inference, each from a run to its probable parent. A row: parent, parent_step, child, child_step, position, distance, margin, support, direction.
// parameters: id, rows
// columns: edges
UNWIND $rows AS row
MATCH (p:Run {id: row[0]})
MATCH (c:Run {id: row[2]})
CREATE (c)-[e:INFERRED_FROM {inference: $id, parent_step: row[1], child_step: row[3], position: row[4],
  distance: row[5], direction: row[8]}]->(p)
SET e.margin = row[6], e.support = row[7]
RETURN count(e) AS edges
