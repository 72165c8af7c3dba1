// purpose: All lifetimes of a layer's connections, per source neuron: rows of target index, tap, born step, died step, and the key that the living have.
// parameters: run, layer, space
// columns: source, lifetimes
MATCH (a:Neuron {run: $run, space: $space})-[c:CONNECTS]->(b:Neuron)
WHERE c.layer = $layer
RETURN a.index AS source, collect([b.index, c.tap, c.born_step, c.died_step, c.alive]) AS lifetimes
ORDER BY source
