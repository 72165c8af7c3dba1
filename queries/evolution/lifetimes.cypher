// purpose: How long the connections of a layer lived that have died, in steps.
// parameters: run, layer, space
// columns: age, connections
MATCH (a:Neuron {run: $run, space: $space})-[c:CONNECTS]->(:Neuron)
WHERE c.layer = $layer AND c.died_step IS NOT NULL
RETURN c.died_step - c.born_step AS age, count(c) AS connections
ORDER BY age
