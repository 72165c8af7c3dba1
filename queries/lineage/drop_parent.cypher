// purpose: Take a declared parent of a run away.
// parameters: run, parent
// columns: dropped
MATCH (:Run {id: $run})-[d:DESCENDS_FROM]->(:Snapshot {id: $parent})
DELETE d
RETURN count(*) AS dropped
