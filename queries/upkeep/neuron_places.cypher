// purpose: How many neurons each space of each run has.
// parameters: none
// columns: run, space, neurons
MATCH (n:Neuron)
RETURN n.run AS run, n.space AS space, count(n) AS neurons
