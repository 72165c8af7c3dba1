// purpose: A page of the stored inferences in the order of their ids, those after one.
// parameters: after, limit
// columns: id, method, alignment, steps, root, depth, samples, edges, created_at
MATCH (i:Inference)
WHERE i.id > $after
RETURN i.id AS id, i.method AS method, i.alignment AS alignment, i.steps AS steps, i.root AS root,
  i.depth AS depth, i.samples AS samples, i.edges AS edges, i.created_at AS created_at
ORDER BY id
LIMIT $limit
