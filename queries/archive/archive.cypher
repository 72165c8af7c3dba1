// purpose: The archive's own node.
// parameters: none
// columns: id, format, created_at
MATCH (a:Archive)
RETURN a.id AS id, a.format AS format, a.created_at AS created_at
ORDER BY id
