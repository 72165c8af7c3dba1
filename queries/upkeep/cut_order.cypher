// purpose: Take away what says which snapshot of a run follows which.
// parameters: run
// columns: cut
MATCH (:Run {id: $run})-[:HAS_SNAPSHOT]->(s:Snapshot)-[n:NEXT]->(:Snapshot)
DELETE n
RETURN count(*) AS cut
