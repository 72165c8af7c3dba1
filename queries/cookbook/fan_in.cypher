// title: How many connections feed each unit?
// purpose: At a step, unit by unit; units without any are left out.
// parameters: run, space, step
// columns: unit, fan_in
// example: {"run": "w0", "space": "hidden1", "step": 30}
MATCH (b:Neuron {run: $run, space: $space})<-[c:CONNECTS]-(:Neuron)
WHERE c.born_step <= $step AND (c.died_step IS NULL OR c.died_step > $step)
RETURN b.index AS unit, count(c) AS fan_in
ORDER BY unit
