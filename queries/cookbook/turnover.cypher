// title: What each update dropped and grew
// purpose: Snapshots do not show a link that was dropped and grown again at once; a job that says so has it counted here.
// parameters: run
// columns: step, layer, dropped, grown, regrown_at_once, overlap
// example: {"run": "w0"}
MATCH (s:Snapshot {run: $run})-[h:HAS_MASK]->(:Mask)
WHERE h.metric_dropped IS NOT NULL
RETURN s.step AS step, h.layer AS layer, h.metric_dropped AS dropped, h.metric_grown AS grown,
  h.metric_regrown_at_once AS regrown_at_once,
  CASE WHEN h.metric_dropped > 0 THEN h.metric_regrown_at_once / h.metric_dropped END AS overlap
ORDER BY step, layer
