// title: How often did connections come to life?
// purpose: Of the connections that leave a space: how many came to life once, and how many were regrown again and
//   again.
// instead: `topostrata history` counts what was regrown at each snapshot.
// parameters: run, space
// columns: lives, connections
// example: {"run": "w0", "space": "input"}
MATCH (a:Neuron {run: $run, space: $space})-[c:CONNECTS]->(b:Neuron)
WITH a.index AS source, c.layer AS layer, c.tap AS tap, b.index AS target, count(c) AS lives
RETURN lives, count(*) AS connections
ORDER BY lives
