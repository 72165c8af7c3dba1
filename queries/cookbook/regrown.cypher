// title: Regrown connections
// purpose: Those that died and came back, with each of their lives; the most often regrown first.
// instead: `topostrata history` counts them at each snapshot; this is refused there by the embedded engine.
// parameters: run, space, layer, limit
// columns: source, tap, target, lives, births
// example: {"run": "w0", "space": "hidden1", "layer": "l1", "limit": 5}
MATCH (a:Neuron {run: $run, space: $space})-[c:CONNECTS]->(b:Neuron)
WHERE c.layer = $layer
WITH a.index AS source, c.tap AS tap, b.index AS target, c.born_step AS born
ORDER BY source, tap, target, born
WITH source, tap, target, count(*) AS lives, collect(born) AS births
WHERE lives > 1
RETURN source, tap, target, lives, births
ORDER BY lives DESC, source, tap, target
LIMIT $limit
