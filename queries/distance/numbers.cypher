// purpose: All numbers that topologies were given; without a digest where no snapshot has the topology any more.
// parameters: none
// columns: digest, family, number
MATCH (t:Topology)
RETURN t.digest AS digest, t.family AS family, t.number AS number
ORDER BY family, number
