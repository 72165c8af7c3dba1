// title: A metric along a run
// purpose: A snapshot keeps the metric `accuracy` as its property `metric_accuracy`.
// parameters: run
// columns: step, accuracy, connections
// example: {"run": "w0"}
MATCH (s:Snapshot {run: $run})
RETURN s.step AS step, s.metric_accuracy AS accuracy, s.nnz AS connections
ORDER BY step
