// title: Which are the probable parents of a run?
// purpose: By the wirings alone, over all inferences that were stored (`topostrata lineage --infer` stores one);
//   `margin` is how much farther the next best parent is.
// parameters: run
// columns: inference, alignment, parent, distance, margin, support, direction
// example: {"run": "w1"}
MATCH (:Run {id: $run})-[e:INFERRED_FROM]->(p:Run)
WHERE p.removed_at IS NULL
MATCH (i:Inference {id: e.inference})
RETURN e.inference AS inference, i.alignment AS alignment, p.id AS parent, e.distance AS distance,
  e.margin AS margin, e.support AS support, e.direction AS direction
ORDER BY inference, parent
