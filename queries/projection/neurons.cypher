// purpose: How many neurons a space of a run has in the graph.
// parameters: run, space
// columns: neurons
MATCH (n:Neuron {run: $run, space: $space})
RETURN count(n) AS neurons
