// purpose: One part of the result of a job, and when the job was finished, which says of which result it is.
// parameters: id, job
// columns: data, finished_at
MATCH (j:Job {id: $job})-[:HAS_PART]->(p:JobPart {id: $id})
RETURN p.data AS data, j.finished_at AS finished_at
