// title: How many connections do two runs share at a step?
// purpose: Same source, tap and target: a comparison by index, meaningful between a run and its relatives.
// instead: `topostrata core w0@0 w1@0` counts them in the masks of all layers.
// parameters: run, other, space, layer, step
// columns: shared
// example: {"run": "w0", "other": "w1", "space": "hidden1", "layer": "l1", "step": 0}
UNWIND [$run, $other] AS name
MATCH (a:Neuron {run: name, space: $space})-[c:CONNECTS {layer: $layer}]->(b:Neuron)
WHERE c.born_step <= $step AND (c.died_step IS NULL OR c.died_step > $step)
WITH a.index AS source, count(c) AS alive, count(DISTINCT c.tap * 4294967296 + b.index) AS different
RETURN sum(alive - different) AS shared
