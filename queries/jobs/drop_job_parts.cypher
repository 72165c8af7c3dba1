// purpose: Take parts of the results of jobs away.
// parameters: ids
// columns: none
UNWIND $ids AS id
MATCH (p:JobPart {id: id})
DETACH DELETE p
