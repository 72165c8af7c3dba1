// title: Units that few connections leave
// purpose: Units of a space that fewer than so many connections leave at a step: of the input, pixels that the network
//   hardly looks at. With the arrow turned round it finds units that few connections enter.
// parameters: run, space, step, fewer
// columns: unit, fan_out
// example: {"run": "w0", "space": "input", "step": 30, "fewer": 15}
MATCH (n:Neuron {run: $run, space: $space})
OPTIONAL MATCH (n)-[c:CONNECTS]->(:Neuron)
WHERE c.born_step <= $step AND (c.died_step IS NULL OR c.died_step > $step)
WITH n.index AS unit, count(c) AS fan_out
WHERE fan_out < $fewer
RETURN unit, fan_out
ORDER BY fan_out, unit
