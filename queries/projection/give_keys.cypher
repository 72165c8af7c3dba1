// purpose: Give the living connections of some neurons in a layer the keys by which they are found when they die, as create_births does. Sources and stride: how many units a target can have as inputs, and with their taps; begin: where the layer's keys begin, of modulus numbers.
// parameters: neurons, layer, begin, sources, taps, stride, modulus
// columns: connections
UNWIND $neurons AS id
MATCH (a:Neuron {id: id})-[c:CONNECTS]->(b:Neuron)
USING INDEX SEEK a:Neuron(id)
WHERE c.layer = $layer AND c.died_step IS NULL
SET c.alive = ($begin + b.index * $stride + (a.index % $sources) * $taps + c.tap) % $modulus
RETURN count(c) AS connections
