// purpose: The parts of the result of a job, of whoever worked on it.
// parameters: id
// columns: id
MATCH (:Job {id: $id})-[:HAS_PART]->(p:JobPart)
RETURN p.id AS id
