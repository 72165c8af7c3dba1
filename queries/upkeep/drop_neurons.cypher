// purpose: Take some neurons of a space of a run away, with their connections.
// parameters: run, space, limit
// columns: dropped
MATCH (n:Neuron {run: $run, space: $space})
WITH n LIMIT $limit
DETACH DELETE n
RETURN count(*) AS dropped
