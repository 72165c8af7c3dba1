// title: Snapshots with the same topology
// purpose: Equal digests are equal wirings, in whatever run.
// parameters: snapshot
// columns: run, snapshots, first, last
// example: {"snapshot": "w0@0"}
MATCH (s:Snapshot {id: $snapshot})
MATCH (o:Snapshot {digest: s.digest})<-[:HAS_SNAPSHOT]-(r:Run)
WHERE r.removed_at IS NULL
RETURN o.run AS run, count(o) AS snapshots, min(o.step) AS first, max(o.step) AS last
ORDER BY run
