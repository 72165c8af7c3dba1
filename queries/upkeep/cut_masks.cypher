// purpose: Take away what says which masks a snapshot has.
// parameters: id
// columns: cut
MATCH (:Snapshot {id: $id})-[h:HAS_MASK]->()
DELETE h
RETURN count(*) AS cut
