// purpose: Forget a job; its parts hang on nothing then.
// parameters: id
// columns: none
MATCH (j:Job {id: $id})
DETACH DELETE j
