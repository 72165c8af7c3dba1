// purpose: Every declared descent: child run, parent run and step, and how the child departed.
// parameters: removed
// columns: child, parent, step, how
MATCH (r:Run)-[d:DESCENDS_FROM]->(s:Snapshot)
WHERE $removed OR r.removed_at IS NULL
RETURN r.id AS child, s.run AS parent, s.step AS step, d.how AS how
ORDER BY child, parent, step
