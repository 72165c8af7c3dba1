// purpose: Take the connections away that begin at some neurons.
// parameters: neurons
// columns: dropped
UNWIND $neurons AS id
MATCH (a:Neuron {id: id})-[c:CONNECTS]->(:Neuron)
USING INDEX SEEK a:Neuron(id)
DELETE c
RETURN count(*) AS dropped
