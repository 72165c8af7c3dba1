// purpose: Store one further part of a mask that is too large for one message, unless the mask was there before in another packing.
// parameters: digest, bytes, part, data
// columns: id
MATCH (m:Mask {digest: $digest, bytes: $bytes})
MERGE (p:MaskPart {id: $digest + '/' + toString($part)})
ON CREATE SET p.part = $part, p.data = $data
MERGE (m)-[:HAS_PART]->(p)
RETURN p.id AS id
