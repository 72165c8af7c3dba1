// purpose: The units of a space of a run, numbered from first to last.
// parameters: run, space, first, last
// columns: neurons
UNWIND range($first, $last) AS i
MERGE (n:Neuron {id: $run + '/' + $space + '/' + toString(i)})
ON CREATE SET n.run = $run, n.space = $space, n.index = i
RETURN count(n) AS neurons
