// purpose: Make a tile of distances where it is new, and take its lock before it is changed.
// parameters: id, alignment, options, version, family, row, column, token
// columns: data, details
MERGE (b:DistanceBlock {id: $id})
ON CREATE SET b.alignment = $alignment, b.options = $options, b.version = $version, b.family = $family,
  b.row = $row, b.column = $column
SET b.guard = $token
RETURN b.data AS data, b.details AS details
