// title: Who feeds this neuron at a step?
// purpose: The inputs of one neuron, with the step at which each connection was born. The id of a neuron is
//   `run/space/index`.
// parameters: id, step
// columns: input, layer, tap, born
// example: {"id": "w0/hidden1/5", "step": 30}
MATCH (n:Neuron {id: $id})<-[c:CONNECTS]-(a:Neuron)
WHERE c.born_step <= $step AND (c.died_step IS NULL OR c.died_step > $step)
RETURN a.id AS input, c.layer AS layer, c.tap AS tap, c.born_step AS born
ORDER BY layer, a.index, tap
