// title: Which neurons does a neuron reach over three connections?
// purpose: One hop more. A hop goes on from each neuron once, so that the work grows with neurons and not with
//   paths.
// parameters: id, step
// columns: id
// example: {"id": "w0/input/20", "step": 30}
MATCH (:Neuron {id: $id})-[c:CONNECTS]->(l:Neuron)
WHERE c.born_step <= $step AND (c.died_step IS NULL OR c.died_step > $step)
WITH DISTINCT l
MATCH (l)-[d:CONNECTS]->(m:Neuron)
WHERE d.born_step <= $step AND (d.died_step IS NULL OR d.died_step > $step)
WITH DISTINCT m
MATCH (m)-[e:CONNECTS]->(n:Neuron)
WHERE e.born_step <= $step AND (e.died_step IS NULL OR e.died_step > $step)
RETURN DISTINCT n.id AS id
ORDER BY id
