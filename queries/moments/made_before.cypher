// purpose: Whether it is kept already that a run was made: a transaction that is tried again may have been committed.
// parameters: run
// columns: times
MATCH (c:Change)
WHERE c.kind = 'run' AND c.run = $run
RETURN count(c) AS times
