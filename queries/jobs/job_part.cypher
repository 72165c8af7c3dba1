// purpose: One part of the result of a job, and when the job was finished, which says of which result it is.
// parameters: id, job
// columns: data, finished_at
MATCH (p:JobPart {id: $id})
MATCH (j:Job {id: $job})-[:HAS_PART]->(p)
RETURN p.data AS data, j.finished_at AS finished_at
