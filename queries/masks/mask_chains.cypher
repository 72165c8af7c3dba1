// purpose: For each mask the digests of the masks it is packed against, nearest first (the mask itself is the first).
// parameters: digests
// columns: digest, chain
UNWIND $digests AS d
MATCH p = (m:Mask {digest: d})-[:BASE*0..24]->(b:Mask)
WITH d, b, length(p) AS hops
ORDER BY d, hops
RETURN d AS digest, collect(b.digest) AS chain
