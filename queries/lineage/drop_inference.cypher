// purpose: Take the node of an inference away.
// parameters: id
// columns: none
MATCH (i:Inference {id: $id})
DELETE i
