// purpose: One stored inference, without its edges.
// parameters: id
// columns: id, method, alignment, version, steps, root, depth, samples, edges, created_at, units, units_by, agreement, out_of_place
MATCH (i:Inference {id: $id})
RETURN i.id AS id, i.method AS method, i.alignment AS alignment, i.version AS version,
  i.steps AS steps, i.root AS root, i.depth AS depth, i.samples AS samples, i.edges AS edges, i.created_at AS created_at,
  i.units AS units, i.units_by AS units_by, i.agreement AS agreement, i.out_of_place AS out_of_place
