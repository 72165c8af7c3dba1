// purpose: Join each delta mask to the mask it was packed against.
// parameters: digests
// columns: linked
UNWIND $digests AS digest
MATCH (m:Mask {digest: digest})
WHERE m.base IS NOT NULL
MATCH (b:Mask {digest: m.base})
MERGE (m)-[k:BASE]->(b)
RETURN count(k) AS linked
