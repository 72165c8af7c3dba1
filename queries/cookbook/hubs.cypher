// title: Hubs
// purpose: The units of a space with the most inputs at a step. With the arrow turned round it finds those with
//   the most outputs.
// parameters: run, space, step, limit
// columns: unit, fan_in
// example: {"run": "w0", "space": "hidden1", "step": 30, "limit": 5}
MATCH (b:Neuron {run: $run, space: $space})<-[c:CONNECTS]-(:Neuron)
WHERE c.born_step <= $step AND (c.died_step IS NULL OR c.died_step > $step)
WITH b.index AS unit, count(c) AS fan_in
RETURN unit, fan_in
ORDER BY fan_in DESC, unit
LIMIT $limit
