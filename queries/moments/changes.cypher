// purpose: A page of what was changed after a place in a moment, up to another moment, in the order of acknowledgement: of all kinds but those left out.
// parameters: since, place, until, without, limit
// columns: moment, place, at, kind, run, step, details
MATCH (c:Change)
USING INDEX c:Change(moment)
WHERE c.moment >= $since AND c.moment <= $until AND (c.moment > $since OR c.place > $place) AND NOT c.kind IN $without
WITH c ORDER BY c.moment, c.place LIMIT $limit
RETURN c.moment AS moment, c.place AS place, c.at AS at, c.kind AS kind, c.run AS run, c.step AS step,
  c.details AS details
ORDER BY moment, place
