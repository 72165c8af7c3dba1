// title: How old are the connections of a layer?
// purpose: How many of the connections alive at a step go back, without a break, to each earlier snapshot.
// parameters: run, layer, space, at
// columns: step, older
// example: {"run": "w0", "layer": "l1", "space": "hidden1", "at": 30}
OPTIONAL MATCH (a:Neuron {run: $run, space: $space})-[c:CONNECTS {layer: $layer}]->(:Neuron)
WHERE c.born_step <= $at AND (c.died_step IS NULL OR c.died_step > $at)
WITH c.born_step AS born, count(c) AS lives
WITH collect([born, lives]) AS groups
MATCH (:Run {id: $run})-[:HAS_SNAPSHOT]->(s:Snapshot)
WHERE s.step <= $at
RETURN s.step AS step,
  reduce(n = 0, g IN groups | n + CASE WHEN g[0] <= s.step THEN g[1] ELSE 0 END) AS older
ORDER BY step
