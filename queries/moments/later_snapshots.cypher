// purpose: The runs that took snapshots after a moment, up to another, each with the first step among them.
// parameters: since, until
// columns: run, step
MATCH (c:Change)
USING INDEX c:Change(moment)
WHERE c.moment > $since AND c.moment <= $until AND c.kind = 'snapshot'
RETURN c.run AS run, min(c.step) AS step
ORDER BY run
