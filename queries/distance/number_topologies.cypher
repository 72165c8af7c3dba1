// purpose: Give topologies their numbers. A row: digest, number.
// parameters: family, rows
// columns: numbered
UNWIND $rows AS row
CREATE (t:Topology {digest: row[0], family: $family, number: row[1]})
RETURN count(t) AS numbered
