// title: Gradient flow beside births and deaths
// purpose: The norm of gradient times mask of a layer's parameter at each step at which it was measured, and what rewiring did there.
// parameters: run, layer, space, parameter
// columns: step, flow, alive, born, died
// example: {"run": "w0", "layer": "l1", "space": "hidden1", "parameter": "l1"}
OPTIONAL MATCH (a:Neuron {run: $run, space: $space})-[c:CONNECTS {layer: $layer}]->(:Neuron)
WITH c.born_step AS born, c.died_step AS died, count(c) AS lives
WITH collect([born, died, lives]) AS groups
MATCH (:Run {id: $run})-[:HAS_METRICS]->(m:StepMetrics)-[:OF_LAYER]->(y:LayerMetrics {layer: $parameter})
RETURN m.step AS step, y.metric_flow_2 AS flow,
  reduce(n = 0, g IN groups | n + CASE WHEN g[0] <= m.step AND (g[1] IS NULL OR g[1] > m.step) THEN g[2] ELSE 0 END) AS alive,
  reduce(n = 0, g IN groups | n + CASE WHEN g[0] = m.step THEN g[2] ELSE 0 END) AS born,
  reduce(n = 0, g IN groups | n + CASE WHEN g[1] = m.step THEN g[2] ELSE 0 END) AS died
ORDER BY step
