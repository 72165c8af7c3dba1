// purpose: How much the archive holds.
// parameters: none
// columns: runs, snapshots, masks, mask_bytes, neurons
RETURN COUNT { (:Run) } AS runs, COUNT { (:Snapshot) } AS snapshots, COUNT { (:Mask) } AS masks,
  reduce(total = 0, b IN COLLECT { MATCH (m:Mask) RETURN m.bytes } | total + b) AS mask_bytes,
  COUNT { (:Neuron) } AS neurons
