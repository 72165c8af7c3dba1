// title: Which connections of a layer are alive at a step?
// purpose: Source, tap and target of each: the mask, as rows.
// instead: `topostrata export`, or `archive.topology("w0@30")` in Python, reads them off the mask.
// parameters: run, layer, space, step
// columns: source, tap, target
// example: {"run": "w0", "layer": "l1", "space": "hidden1", "step": 30}
MATCH (a:Neuron {run: $run, space: $space})-[c:CONNECTS]->(b:Neuron)
WHERE c.layer = $layer AND c.born_step <= $step AND (c.died_step IS NULL OR c.died_step > $step)
RETURN a.index AS source, c.tap AS tap, b.index AS target
ORDER BY source, tap, target
