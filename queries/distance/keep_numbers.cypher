// purpose: Keep numbers that no topology has any more from being given again.
// parameters: family, numbers
// columns: kept
UNWIND $numbers AS number
MERGE (t:Topology {family: $family, number: number})
RETURN count(t) AS kept
