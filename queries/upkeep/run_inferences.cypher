// purpose: The stored inferences that some runs are in.
// parameters: runs
// columns: id
UNWIND $runs AS id
MATCH (:Run {id: id})-[e:INFERRED_FROM]-(:Run)
RETURN DISTINCT e.inference AS id
