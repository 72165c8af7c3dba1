// title: Which neuron of another run is this one?
// purpose: Its counterparts, and how many of its connections of all that either has are common (0 to 1); of matches
//   that were kept (`topostrata match --keep`).
// parameters: id
// columns: counterpart, snapshot, other_snapshot, alignment, score, common
// example: {"id": "w0/hidden1/5"}
MATCH (a:Neuron {id: $id})-[m:MATCHES]-(b:Neuron)
MATCH (r:Run {id: b.run})
WHERE r.removed_at IS NULL
RETURN b.id AS counterpart, m.snapshot AS snapshot, m.other_snapshot AS other_snapshot, m.alignment AS alignment,
  m.score AS score, m.common AS common
ORDER BY counterpart, snapshot, other_snapshot, alignment
