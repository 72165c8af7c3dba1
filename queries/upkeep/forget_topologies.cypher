// purpose: Take their digests from the numbers of topologies that no snapshot has any more, so that their distances can not be found; numbers are never given twice.
// parameters: digests
// columns: forgotten
UNWIND $digests AS digest
MATCH (t:Topology {digest: digest})
WHERE NOT EXISTS { (:Snapshot {digest: digest}) }
REMOVE t.digest
RETURN count(t) AS forgotten
