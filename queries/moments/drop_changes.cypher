// purpose: Take some of what is known of the changes of a run away, up to a moment.
// parameters: run, until, limit
// columns: dropped
MATCH (c:Change)
USING INDEX c:Change(moment)
WHERE c.moment <= $until AND c.run = $run
WITH c LIMIT $limit
DELETE c
RETURN count(*) AS dropped
