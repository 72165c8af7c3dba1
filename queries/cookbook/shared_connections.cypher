// title: How many connections do two runs share at a step?
// purpose: Same source, tap and target: a comparison by index, meaningful between a run and its relatives.
// parameters: run, other, space, layer, step
// columns: shared
// example: {"run": "w0", "other": "w1", "space": "hidden1", "layer": "l1", "step": 0}
MATCH (a:Neuron {run: $run, space: $space})-[c:CONNECTS]->(b:Neuron)
WHERE c.layer = $layer AND c.born_step <= $step AND (c.died_step IS NULL OR c.died_step > $step)
WITH a.space + '/' + toString(a.index) AS source, c.tap AS tap, b.index AS target
MATCH (x:Neuron {id: $other + '/' + source})-[d:CONNECTS]->(y:Neuron)
WHERE d.layer = $layer AND d.tap = tap AND y.index = target AND d.born_step <= $step AND (d.died_step IS NULL OR d.died_step > $step)
RETURN count(*) AS shared
