// purpose: Make the archive's clock where there is none: it counts what is acknowledged.
// parameters: name
// columns: last
MERGE (k:Clock {name: $name})
ON CREATE SET k.last = 0, k.earliest = 0
RETURN k.last AS last
