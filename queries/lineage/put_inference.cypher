// purpose: Store that an ancestry was inferred: how, and at which steps of its runs.
// parameters: id, method, alignment, version, steps, root, depth, samples, edges, created_at, units, units_by, agreement, out_of_place
// columns: id
CREATE (i:Inference {id: $id, method: $method, alignment: $alignment, version: $version, steps: $steps,
  samples: $samples, edges: $edges, created_at: $created_at})
SET i.root = $root, i.depth = $depth, i.units = $units, i.units_by = $units_by, i.agreement = $agreement,
  i.out_of_place = $out_of_place
RETURN i.id AS id
