// purpose: Births and deaths of a layer that stand in the graph beyond its projected step: what a projector that was killed left behind.
// parameters: run, layer, space, step, taps
// columns: source, born, died
MATCH (a:Neuron {run: $run, space: $space})-[c:CONNECTS]->(b:Neuron)
WHERE c.layer = $layer AND (c.born_step > $step OR c.died_step > $step)
RETURN a.index AS source,
  collect(CASE WHEN c.born_step > $step THEN [c.born_step, b.index * $taps + c.tap] END) AS born,
  collect(CASE WHEN c.died_step > $step THEN [c.died_step, b.index * $taps + c.tap] END) AS died
