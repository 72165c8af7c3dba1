// title: Paths from an input pixel to a class
// purpose: One `MATCH` for each layer of the network, each with its condition: a path of four hops in one pattern
//   would follow every connection that ever lived. Neo4j Browser draws the neurons and connections.
// instead: `receptive_field` of the class says through which units paths go, in much less time.
// parameters: pixel, class, step, limit
// columns: neurons, connections
// example: {"pixel": "w0/input/20", "class": "w0/output/3", "step": 30, "limit": 3}
MATCH (x:Neuron {id: $pixel})-[c:CONNECTS]->(h1:Neuron)
WHERE c.born_step <= $step AND (c.died_step IS NULL OR c.died_step > $step)
WITH x, c, h1
MATCH (h1)-[d:CONNECTS]->(h2:Neuron)
WHERE d.born_step <= $step AND (d.died_step IS NULL OR d.died_step > $step)
WITH x, c, h1, d, h2
MATCH (h2)-[e:CONNECTS]->(h3:Neuron)
WHERE e.born_step <= $step AND (e.died_step IS NULL OR e.died_step > $step)
WITH x, c, h1, d, h2, e, h3
MATCH (h3)-[f:CONNECTS]->(y:Neuron {id: $class})
WHERE f.born_step <= $step AND (f.died_step IS NULL OR f.died_step > $step)
RETURN [x, h1, h2, h3, y] AS neurons, [c, d, e, f] AS connections
ORDER BY h1.index, h2.index, h3.index
LIMIT $limit
