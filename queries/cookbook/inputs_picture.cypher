// title: The same as a picture
// purpose: Nodes and relationships instead of columns: Neo4j Browser draws them.
// parameters: id, step
// columns: n, c, a
// example: {"id": "w0/hidden1/5", "step": 30}
MATCH (n:Neuron {id: $id})<-[c:CONNECTS]-(a:Neuron)
WHERE c.born_step <= $step AND (c.died_step IS NULL OR c.died_step > $step)
RETURN n, c, a
ORDER BY a.space, a.index, c.tap
