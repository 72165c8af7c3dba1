// title: Dead units
// purpose: The units of a space that have no inputs, or no outputs, at a step. Pixels have no inputs, so ask a
//   hidden space. In the demo no unit dies.
// parameters: run, space, step
// columns: unit, no_inputs, no_outputs
// example: {"run": "w0", "space": "hidden1", "step": 30}
MATCH (n:Neuron {run: $run, space: $space})
WITH n.index AS unit,
  COUNT { (n)<-[c:CONNECTS]-(:Neuron) WHERE c.born_step <= $step AND (c.died_step IS NULL OR c.died_step > $step) } AS fan_in,
  COUNT { (n)-[c:CONNECTS]->(:Neuron) WHERE c.born_step <= $step AND (c.died_step IS NULL OR c.died_step > $step) } AS fan_out
WHERE fan_in = 0 OR fan_out = 0
RETURN unit, fan_in = 0 AS no_inputs, fan_out = 0 AS no_outputs
ORDER BY unit
