// purpose: Every probable parent of a run, over all stored inferences.
// parameters: run
// columns: inference, alignment, parent, distance, margin, support, direction
MATCH (:Run {id: $run})-[e:INFERRED_FROM]->(p:Run)
MATCH (i:Inference {id: e.inference})
RETURN e.inference AS inference, i.alignment AS alignment, p.id AS parent, e.distance AS distance,
  e.margin AS margin, e.support AS support, e.direction AS direction
ORDER BY inference, parent
