// purpose: The steps of all runs: what refs and globs can name.
// parameters: none
// columns: run, steps
MATCH (s:Snapshot)
WITH s.run AS run, s.step AS step
ORDER BY run, step
RETURN run, collect(step) AS steps
ORDER BY run
