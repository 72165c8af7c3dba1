// purpose: Make the node that names the archive and its format, once.
// parameters: id, format, created_at
// columns: id, format
MERGE (a:Archive {id: $id})
ON CREATE SET a.format = $format, a.created_at = $created_at
RETURN a.id AS id, a.format AS format
