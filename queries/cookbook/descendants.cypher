// title: Runs that descend from a run
// purpose: Children, their children, and so on. A run descends from a snapshot, so generations are pairs of
//   relationships.
// parameters: run
// columns: descendant, generations, via
// example: {"run": "w0"}
MATCH p = (:Run {id: $run})-[:HAS_SNAPSHOT|DESCENDS_FROM*2..12]-(r:Run)
WHERE r.removed_at IS NULL AND all(k IN range(0, length(p) - 1)
  WHERE type(relationships(p)[k]) = CASE k % 2 WHEN 0 THEN 'HAS_SNAPSHOT' ELSE 'DESCENDS_FROM' END)
RETURN r.id AS descendant, length(p) / 2 AS generations, [n IN nodes(p) WHERE n:Snapshot | n.id] AS via
ORDER BY generations, descendant, via
