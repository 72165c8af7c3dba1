// purpose: The first number that no topology of a family has yet.
// parameters: family
// columns: number
OPTIONAL MATCH (t:Topology {family: $family})
RETURN coalesce(max(t.number) + 1, 0) AS number
