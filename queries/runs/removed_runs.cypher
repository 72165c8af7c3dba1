// purpose: The runs that were removed and can be brought back.
// parameters: none
// columns: id, at, snapshots
MATCH (r:Run)
WHERE r.removed_at IS NOT NULL
RETURN r.id AS id, r.removed_at AS at, COUNT { (r)-[:HAS_SNAPSHOT]->(:Snapshot) } AS snapshots
ORDER BY id
