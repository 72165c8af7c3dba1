// title: Exploration, step by step
// purpose: How many different connections of a layer were alive at some snapshot up to each one, and how many were
//   regrown there: born, but not for the first time.
// instead: `topostrata history` reads the same numbers off the masks.
// parameters: run, layer, space
// columns: step, explored, regrown
// example: {"run": "w0", "layer": "l1", "space": "hidden1"}
MATCH (y:Layer {id: $run + '/' + $layer})
WITH y.n_target AS targets, y.taps AS taps
OPTIONAL MATCH (a:Neuron {run: $run, space: $space})-[c:CONNECTS {layer: $layer}]->(b:Neuron)
WITH (a.index * taps + c.tap) * targets + b.index AS cell, min(c.born_step) AS first
WITH first, count(*) AS connections
WITH collect([first, connections]) AS firsts
OPTIONAL MATCH (:Neuron {run: $run, space: $space})-[c:CONNECTS {layer: $layer}]->(:Neuron)
WITH firsts, c.born_step AS born, count(*) AS connections
WITH firsts, collect([born, connections]) AS births
MATCH (:Run {id: $run})-[:HAS_SNAPSHOT]->(s:Snapshot)
RETURN s.step AS step,
  reduce(n = 0, f IN firsts | n + CASE WHEN f[0] <= s.step THEN f[1] ELSE 0 END) AS explored,
  reduce(n = 0, b IN births | n + CASE WHEN b[0] = s.step THEN b[1] ELSE 0 END)
    - reduce(n = 0, f IN firsts | n + CASE WHEN f[0] = s.step THEN f[1] ELSE 0 END) AS regrown
ORDER BY step
