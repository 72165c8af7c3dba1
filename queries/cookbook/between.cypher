// title: What became of a layer from one step to another?
// purpose: How many connections survived without a break, died and came back, died, and were born.
// parameters: run, layer, space, from, to
// columns: survived, regrown, died, born
// example: {"run": "w0", "layer": "l1", "space": "hidden1", "from": 0, "to": 30}
MATCH (a:Neuron {run: $run, space: $space})-[c:CONNECTS]->(b:Neuron)
WHERE c.layer = $layer AND (c.born_step <= $from AND (c.died_step IS NULL OR c.died_step > $from)
    OR c.born_step <= $to AND (c.died_step IS NULL OR c.died_step > $to))
WITH a.index AS source, c.tap AS tap, b.index AS target,
  max(CASE WHEN c.born_step <= $from AND (c.died_step IS NULL OR c.died_step > $from) THEN 1 ELSE 0 END) AS before,
  max(CASE WHEN c.born_step <= $to AND (c.died_step IS NULL OR c.died_step > $to) THEN 1 ELSE 0 END) AS after,
  max(CASE WHEN c.born_step <= $from AND (c.died_step IS NULL OR c.died_step > $to) THEN 1 ELSE 0 END) AS throughout
RETURN sum(throughout) AS survived, sum(before * after) - sum(throughout) AS regrown,
  sum(before * (1 - after)) AS died, sum((1 - before) * after) AS born
