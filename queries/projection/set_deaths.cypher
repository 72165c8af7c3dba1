// purpose: Connections of a layer that died at a step, found by their keys in an index and not among all that a neuron ever had. Connections of a layer of more than 2**31 possible ones may share a key: turn (the whole part of begin plus cell over modulus) tells them apart, null says that none do.
// parameters: run, layer, step, keys, turn, begin, sources, taps, stride, modulus
// columns: died
MATCH (a)-[c:CONNECTS]->(b)
USING INDEX c:CONNECTS(alive)
WHERE c.alive IN $keys AND c.run = $run AND c.layer = $layer
  AND ($turn IS NULL OR ($begin + b.index * $stride + (a.index % $sources) * $taps + c.tap) / $modulus = $turn)
SET c.died_step = $step
REMOVE c.alive
RETURN count(c) AS died
