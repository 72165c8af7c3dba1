// purpose: Give a run its tags (all of them).
// parameters: run, tags
// columns: id
MATCH (r:Run {id: $run})
SET r.tags = $tags
RETURN r.id AS id
