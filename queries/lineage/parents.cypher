// purpose: The declared parents of some runs.
// parameters: runs
// columns: run, parent, step, how
UNWIND $runs AS id
MATCH (r:Run {id: id})-[d:DESCENDS_FROM]->(s:Snapshot)
RETURN r.id AS run, s.run AS parent, s.step AS step, d.how AS how
ORDER BY run, parent, step
