// title: The ten nearest snapshots
// purpose: Of those whose distance is known, by one alignment.
// parameters: snapshot, alignment
// columns: snapshot, nnstd
// example: {"snapshot": "w0@0", "alignment": "overlap"}
MATCH (:Snapshot {id: $snapshot})-[d:DISTANCE]-(o:Snapshot)<-[:HAS_SNAPSHOT]-(r:Run)
WHERE d.alignment = $alignment AND r.removed_at IS NULL
RETURN o.id AS snapshot, min(d.nnstd) AS nnstd
ORDER BY nnstd, snapshot
LIMIT 10
