// title: Which connections survived?
// purpose: Alive at both steps and at every recorded step between.
// parameters: run, layer, space, from, to
// columns: source, tap, target
// example: {"run": "w0", "layer": "l1", "space": "hidden1", "from": 0, "to": 30}
MATCH (a:Neuron {run: $run, space: $space})-[c:CONNECTS]->(b:Neuron)
WHERE c.layer = $layer AND c.born_step <= $from AND (c.died_step IS NULL OR c.died_step > $to)
RETURN a.index AS source, c.tap AS tap, b.index AS target
ORDER BY source, tap, target
