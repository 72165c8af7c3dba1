// purpose: Take the node of a run away.
// parameters: run
// columns: dropped
MATCH (r:Run {id: $run})
DETACH DELETE r
RETURN count(*) AS dropped
