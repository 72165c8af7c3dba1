// title: The family tree as a picture
// purpose: Every declared descent as a path: the child, the snapshot it started from, the parent.
// parameters: none
// columns: p
// example: {}
MATCH p = (child:Run)-[:DESCENDS_FROM]->(s:Snapshot)<-[:HAS_SNAPSHOT]-(:Run)
WHERE child.removed_at IS NULL
RETURN p
ORDER BY child.id, s.id
