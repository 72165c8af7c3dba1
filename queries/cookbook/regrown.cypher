// title: Regrown connections
// purpose: Those that died and came back, with each of their lives; the most often regrown first. They are counted by one
//   number each, for which an engine has room where a layer has a million lifetimes.
// instead: `topostrata history` counts them at each snapshot.
// parameters: run, space, layer, limit
// columns: source, tap, target, lives, births
// example: {"run": "w0", "space": "hidden1", "layer": "l1", "limit": 5}
MATCH (y:Layer {id: $run + '/' + $layer})
WITH y.n_target AS targets, y.taps AS taps
MATCH (a:Neuron {run: $run, space: $space})-[c:CONNECTS]->(b:Neuron)
WHERE c.layer = $layer
WITH (a.index * taps + c.tap) * targets + b.index AS cell, count(*) AS lives
WHERE lives > 1
WITH cell, lives
ORDER BY lives DESC, cell
LIMIT $limit
MATCH (y:Layer {id: $run + '/' + $layer})
WITH cell / y.n_target / y.taps AS source, cell / y.n_target % y.taps AS tap, cell % y.n_target AS target, lives
MATCH (a:Neuron {id: $run + '/' + $space + '/' + toString(source)})-[c:CONNECTS]->(b:Neuron)
WHERE c.layer = $layer AND c.tap = tap AND b.index = target
WITH source, tap, target, lives, c.born_step AS born
ORDER BY born
WITH source, tap, target, lives, collect(born) AS births
RETURN source, tap, target, lives, births
ORDER BY lives DESC, source, tap, target
