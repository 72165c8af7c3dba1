// purpose: Take connections of some neurons in a layer away that died up to a step, at most so many.
// parameters: neurons, layer, step, limit
// columns: dropped
UNWIND $neurons AS id
MATCH (a:Neuron {id: id})-[c:CONNECTS]->(:Neuron)
USING INDEX SEEK a:Neuron(id)
WHERE c.layer = $layer AND c.died_step <= $step
WITH c LIMIT $limit
DELETE c
RETURN count(*) AS dropped
