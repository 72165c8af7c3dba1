// purpose: Take nodes away, with all that joins them to others.
// parameters: nodes
// columns: dropped
UNWIND $nodes AS node
MATCH (n)
WHERE elementId(n) = node
DETACH DELETE n
RETURN count(*) AS dropped
