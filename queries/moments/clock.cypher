// purpose: The last moment of the archive, and the earliest that can still be asked of.
// parameters: name
// columns: last, earliest
MATCH (k:Clock {name: $name})
RETURN k.last AS last, k.earliest AS earliest
