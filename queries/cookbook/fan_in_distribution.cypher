// title: How is the fan-in distributed at a step?
// purpose: How many units of a space have how many inputs, those without any included.
// parameters: run, space, step
// columns: fan_in, units
// example: {"run": "w0", "space": "hidden1", "step": 30}
MATCH (n:Neuron {run: $run, space: $space})
OPTIONAL MATCH (n)<-[c:CONNECTS]-(:Neuron)
WHERE c.born_step <= $step AND (c.died_step IS NULL OR c.died_step > $step)
WITH n, count(c) AS fan_in
RETURN fan_in, count(n) AS units
ORDER BY fan_in
