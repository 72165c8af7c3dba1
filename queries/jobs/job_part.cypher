// purpose: One part of the result of a job.
// parameters: id
// columns: data
MATCH (p:JobPart {id: $id})
RETURN p.data AS data
