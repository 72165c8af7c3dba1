// purpose: Take parts of the results of jobs away, but those that a job has again. They are locked before that is seen.
// parameters: ids, token
// columns: none
UNWIND $ids AS id
MATCH (p:JobPart {id: id})
SET p.guard = $token
WITH p
WHERE NOT EXISTS { (:Job)-[:HAS_PART]->(p) }
DETACH DELETE p
