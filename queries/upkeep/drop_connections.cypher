// purpose: Take the connections away that begin at some neurons.
// parameters: neurons
// columns: dropped
UNWIND $neurons AS id
MATCH (:Neuron {id: id})-[c:CONNECTS]->(:Neuron)
DELETE c
RETURN count(*) AS dropped
