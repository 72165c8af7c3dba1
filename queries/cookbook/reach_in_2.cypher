// title: Which neurons does a neuron reach over two connections?
// purpose: Over exactly two that are alive at a step; each neuron once, by however many paths.
// parameters: id, step
// columns: id
// example: {"id": "w0/input/20", "step": 30}
MATCH (:Neuron {id: $id})-[c:CONNECTS]->(m:Neuron)
WHERE c.born_step <= $step AND (c.died_step IS NULL OR c.died_step > $step)
WITH DISTINCT m
MATCH (m)-[d:CONNECTS]->(n:Neuron)
WHERE d.born_step <= $step AND (d.died_step IS NULL OR d.died_step > $step)
RETURN DISTINCT n.id AS id
ORDER BY id
