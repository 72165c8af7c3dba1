// purpose: The edges of an inference, in its order: child, probable parent, and the steps at which they were compared.
// parameters: id
// columns: parent, parent_step, child, child_step, distance, margin, support, direction
MATCH (c:Run)-[e:INFERRED_FROM]->(p:Run)
WHERE e.inference = $id
RETURN p.id AS parent, e.parent_step AS parent_step, c.id AS child, e.child_step AS child_step,
  e.distance AS distance, e.margin AS margin, e.support AS support, e.direction AS direction
ORDER BY e.position
