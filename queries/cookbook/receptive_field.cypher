// title: Which units of a space reach this neuron over two connections?
// purpose: Its receptive field at a step: a longer one has more hops, each with its own condition, so that dead
//   connections are left behind at once.
// parameters: id, step, space
// columns: unit, paths
// example: {"id": "w0/hidden2/5", "step": 30, "space": "input"}
MATCH (n:Neuron {id: $id})<-[c:CONNECTS]-(m:Neuron)
WHERE c.born_step <= $step AND (c.died_step IS NULL OR c.died_step > $step)
WITH m
MATCH (m)<-[d:CONNECTS]-(a:Neuron)
WHERE a.space = $space AND d.born_step <= $step AND (d.died_step IS NULL OR d.died_step > $step)
RETURN a.index AS unit, count(*) AS paths
ORDER BY paths DESC, unit
