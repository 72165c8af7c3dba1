// title: Born and dead within k steps
// purpose: How many connections of a layer lived for how long: the short lives, or all that have ended with a
//   large k.
// parameters: run, layer, space, k
// columns: age, connections
// example: {"run": "w0", "layer": "l1", "space": "hidden1", "k": 5}
MATCH (a:Neuron {run: $run, space: $space})-[c:CONNECTS]->(:Neuron)
WHERE c.layer = $layer AND c.died_step - c.born_step <= $k
RETURN c.died_step - c.born_step AS age, count(c) AS connections
ORDER BY age
