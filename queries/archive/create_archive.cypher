// purpose: Make the one node that names the archive and its format; whoever comes second finds it.
// parameters: name, id, format, created_at
// columns: id, format
MERGE (a:Archive {name: $name})
ON CREATE SET a.id = $id, a.format = $format, a.created_at = $created_at
RETURN a.id AS id, a.format AS format
