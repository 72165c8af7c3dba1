// title: Births and deaths, step by step
// purpose: How many connections of a layer are alive at each snapshot, and what rewiring did there.
// parameters: run, layer, space
// columns: step, alive, born, died
// example: {"run": "w0", "layer": "l1", "space": "hidden1"}
OPTIONAL MATCH (a:Neuron {run: $run, space: $space})-[c:CONNECTS {layer: $layer}]->(:Neuron)
WITH c.born_step AS born, c.died_step AS died, count(c) AS lives
WITH collect([born, died, lives]) AS groups
MATCH (:Run {id: $run})-[:HAS_SNAPSHOT]->(s:Snapshot)
RETURN s.step AS step,
  reduce(n = 0, g IN groups | n + CASE WHEN g[0] <= s.step AND (g[1] IS NULL OR g[1] > s.step) THEN g[2] ELSE 0 END) AS alive,
  reduce(n = 0, g IN groups | n + CASE WHEN g[0] = s.step THEN g[2] ELSE 0 END) AS born,
  reduce(n = 0, g IN groups | n + CASE WHEN g[1] = s.step THEN g[2] ELSE 0 END) AS died
ORDER BY step
