// purpose: The numbers under which topologies stand in the tiles of distances.
// parameters: digests
// columns: digest, number
UNWIND $digests AS digest
MATCH (t:Topology {digest: digest})
RETURN t.digest AS digest, t.number AS number
