// purpose: The connections of a layer that are alive at a step.
// parameters: run, layer, space, step
// columns: source, tap, target
MATCH (a:Neuron {run: $run, space: $space})-[c:CONNECTS]->(b:Neuron)
WHERE c.layer = $layer AND c.born_step <= $step AND (c.died_step IS NULL OR c.died_step > $step)
RETURN a.index AS source, c.tap AS tap, b.index AS target
ORDER BY source, tap, target
