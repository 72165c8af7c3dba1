// purpose: Store masks that are not stored yet. A row: digest, nnz, kind, base, depth, codec, bytes, parts, data (the first part).
// parameters: rows
// columns: digest, depth
UNWIND $rows AS row
MERGE (m:Mask {digest: row[0]})
ON CREATE SET m.nnz = row[1], m.kind = row[2], m.base = row[3], m.depth = row[4], m.codec = row[5], m.bytes = row[6],
  m.parts = row[7], m.data = row[8]
RETURN m.digest AS digest, m.depth AS depth
