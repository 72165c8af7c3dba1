// purpose: How often the connections that leave a space came to life: once, or regrown again and again.
// parameters: run, space
// columns: lives, connections
MATCH (a:Neuron {run: $run, space: $space})-[c:CONNECTS]->(b:Neuron)
WITH a.index AS source, c.layer AS layer, c.tap AS tap, b.index AS target, count(c) AS lives
RETURN lives, count(*) AS connections
ORDER BY lives
