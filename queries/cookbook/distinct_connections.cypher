// title: Exploration: distinct connections ever
// purpose: How much of what is possible the run has tried, layer by layer; `now` is what is alive.
// parameters: run, space
// columns: layer, ever, now, possible
// example: {"run": "w0", "space": "hidden1"}
MATCH (a:Neuron {run: $run, space: $space})-[c:CONNECTS]->(b:Neuron)
WITH c.layer AS layer, a.index AS source, c.tap AS tap, b.index AS target,
  sum(CASE WHEN c.died_step IS NULL THEN 1 ELSE 0 END) AS alive
WITH layer, count(*) AS ever, sum(alive) AS now
MATCH (y:Layer {id: $run + '/' + layer})
RETURN layer, ever, now, y.n_source * y.n_target * y.taps AS possible
ORDER BY layer
