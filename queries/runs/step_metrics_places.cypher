// purpose: What the metrics of a run at its steps call themselves.
// parameters: run
// columns: id, run, step
MATCH (:Run {id: $run})-[:HAS_METRICS]->(m)
RETURN m.id AS id, m.run AS run, m.step AS step
ORDER BY step
