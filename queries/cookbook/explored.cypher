// title: Exploration, step by step
// purpose: How many different connections of a layer were alive at some snapshot up to each one, and how many were
//   regrown there.
// instead: `topostrata history` reads the same numbers off the masks; this is refused there by the embedded engine.
// parameters: run, layer, space
// columns: step, explored, regrown
// example: {"run": "w0", "layer": "l1", "space": "hidden1"}
OPTIONAL MATCH (a:Neuron {run: $run, space: $space})-[c:CONNECTS {layer: $layer}]->(b:Neuron)
WITH a.index AS source, c.tap AS tap, b.index AS target, min(c.born_step) AS first, collect(c.born_step) AS births
UNWIND births AS born
WITH first, born, count(*) AS connections
WITH collect([first, born, connections]) AS groups
MATCH (:Run {id: $run})-[:HAS_SNAPSHOT]->(s:Snapshot)
RETURN s.step AS step,
  reduce(n = 0, g IN groups | n + CASE WHEN g[0] = g[1] AND g[1] <= s.step THEN g[2] ELSE 0 END) AS explored,
  reduce(n = 0, g IN groups | n + CASE WHEN g[0] <> g[1] AND g[1] = s.step THEN g[2] ELSE 0 END) AS regrown
ORDER BY step
