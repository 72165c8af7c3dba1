// purpose: Take an earlier match of two snapshots away, from the units of a space of one of them.
// parameters: run, space, pair
// columns: none
MATCH (a:Neuron {run: $run, space: $space})-[m:MATCHES]-(:Neuron)
USING INDEX SEEK a:Neuron(run, space)
WHERE m.pair = $pair
DELETE m
