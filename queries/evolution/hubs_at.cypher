// purpose: The units of a space with the most inputs at a step.
// parameters: run, space, step, limit
// columns: unit, fan_in
MATCH (b:Neuron {run: $run, space: $space})<-[c:CONNECTS]-(:Neuron)
WHERE c.born_step <= $step AND (c.died_step IS NULL OR c.died_step > $step)
WITH b.index AS unit, count(c) AS fan_in
RETURN unit, fan_in
ORDER BY fan_in DESC, unit
LIMIT $limit
