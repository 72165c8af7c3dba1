// purpose: A page of all that is kept in tiles, distances and chance levels, in the order of their ids.
// parameters: after, limit
// columns: id, alignment, options, version, family, row, column, data, details
MATCH (b:DistanceBlock)
WHERE b.id > $after
RETURN b.id AS id, b.alignment AS alignment, b.options AS options, b.version AS version, b.family AS family,
  b.row AS row, b.column AS column, b.data AS data, b.details AS details
ORDER BY id LIMIT $limit
