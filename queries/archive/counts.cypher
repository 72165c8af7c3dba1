// purpose: How much the archive holds.
// parameters: none
// columns: runs, snapshots, masks, mask_bytes, neurons
OPTIONAL MATCH (m:Mask)
WITH count(m) AS masks, sum(m.bytes) AS mask_bytes
RETURN COUNT { (:Run) } AS runs, COUNT { (:Snapshot) } AS snapshots, masks, mask_bytes, COUNT { (:Neuron) } AS neurons
