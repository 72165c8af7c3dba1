// purpose: Keep a part of the result of a job that is still there.
// parameters: id, part, data
// columns: id
MATCH (j:Job {id: $id})
MERGE (p:JobPart {id: $part})
SET p.data = $data
MERGE (j)-[:HAS_PART]->(p)
RETURN p.id AS id
