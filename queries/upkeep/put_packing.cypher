// purpose: Give masks bytes that need no other mask. A row: digest, nnz, codec, bytes, parts, data.
// parameters: rows
// columns: masks
UNWIND $rows AS row
MERGE (m:Mask {digest: row[0]})
SET m.nnz = row[1], m.kind = 'full', m.base = null, m.depth = 0, m.codec = row[2], m.bytes = row[3], m.parts = row[4],
  m.data = row[5]
RETURN count(m) AS masks
