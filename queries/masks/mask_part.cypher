// purpose: One further part of a large mask.
// parameters: id
// columns: data
MATCH (p:MaskPart {id: $id})
RETURN p.data AS data
