// title: Exploration: distinct connections ever
// purpose: How much of what is possible the run has tried, layer by layer; `now` is what is alive.
// parameters: run, space
// columns: layer, ever, now, possible
// example: {"run": "w0", "space": "hidden1"}
MATCH (a:Neuron {run: $run, space: $space})-[c:CONNECTS]->(b:Neuron)
WITH a, c.layer AS layer, count(DISTINCT c.tap * 4294967296 + b.index) AS ever,
  sum(CASE WHEN c.died_step IS NULL THEN 1 ELSE 0 END) AS now
WITH layer, sum(ever) AS ever, sum(now) AS now
MATCH (y:Layer {id: $run + '/' + layer})
RETURN layer, ever, now, y.n_source * y.n_target * y.taps AS possible
ORDER BY layer
