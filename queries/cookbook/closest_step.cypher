// title: The step at which two runs were closest
// purpose: Of the steps at which both were compared (the demo compares before and after training); the closest first.
// parameters: run, other, alignment
// columns: step, nnstd
// example: {"run": "w0", "other": "w1", "alignment": "overlap"}
MATCH (s:Snapshot {run: $run})-[d:DISTANCE]-(o:Snapshot)
WHERE o.run = $other AND o.step = s.step AND d.alignment = $alignment
RETURN s.step AS step, min(d.nnstd) AS nnstd
ORDER BY nnstd, step
