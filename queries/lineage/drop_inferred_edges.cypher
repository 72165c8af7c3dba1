// purpose: Take the edges of an inference away.
// parameters: id
// columns: none
MATCH (:Run)-[e:INFERRED_FROM]->(:Run)
WHERE e.inference = $id
DELETE e
