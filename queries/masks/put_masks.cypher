// purpose: Store masks that are not stored yet, each joined to the mask it was packed against. A row: digest, nnz, kind, base, depth, codec, bytes, parts, data (the first part). Whole says whether that base is there.
// parameters: rows
// columns: digest, depth, whole
UNWIND $rows AS row
MERGE (m:Mask {digest: row[0]})
ON CREATE SET m.nnz = row[1], m.kind = row[2], m.base = row[3], m.depth = row[4], m.codec = row[5], m.bytes = row[6],
  m.parts = row[7], m.data = row[8]
WITH m
OPTIONAL MATCH (b:Mask {digest: m.base})
FOREACH (base IN CASE WHEN b IS NULL THEN [] ELSE [b] END | MERGE (m)-[:BASE]->(base))
RETURN m.digest AS digest, m.depth AS depth, m.base IS NULL OR b IS NOT NULL AS whole
