// purpose: Give a run another name; its id stays.
// parameters: run, name
// columns: id
MATCH (r:Run {id: $run})
SET r.name = $name
RETURN r.id AS id
