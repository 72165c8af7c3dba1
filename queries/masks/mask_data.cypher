// purpose: The packed bytes of masks (the first part) and how many parts there are.
// parameters: digests
// columns: digest, parts, bytes, data
UNWIND $digests AS d
MATCH (m:Mask {digest: d})
RETURN m.digest AS digest, m.parts AS parts, m.bytes AS bytes, m.data AS data
