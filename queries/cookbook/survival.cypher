// title: Survival
// purpose: How many of the connections of a layer alive at a step are still alive, without a break, at each later
//   snapshot.
// parameters: run, layer, space, from
// columns: step, survived
// example: {"run": "w0", "layer": "l1", "space": "hidden1", "from": 0}
OPTIONAL MATCH (a:Neuron {run: $run, space: $space})-[c:CONNECTS {layer: $layer}]->(:Neuron)
WHERE c.born_step <= $from AND (c.died_step IS NULL OR c.died_step > $from)
WITH c.died_step AS died, count(c) AS lives
WITH collect([died, lives]) AS groups
MATCH (:Run {id: $run})-[:HAS_SNAPSHOT]->(s:Snapshot)
WHERE s.step >= $from
RETURN s.step AS step,
  reduce(n = 0, g IN groups | n + CASE WHEN g[0] IS NULL OR g[0] > s.step THEN g[1] ELSE 0 END) AS survived
ORDER BY step
