// purpose: The constraints and indexes of archive format 1.
// parameters: none
// columns: none
CREATE CONSTRAINT archive_name IF NOT EXISTS FOR (n:Archive) REQUIRE n.name IS UNIQUE;
CREATE CONSTRAINT run_id IF NOT EXISTS FOR (n:Run) REQUIRE n.id IS UNIQUE;
CREATE CONSTRAINT layer_id IF NOT EXISTS FOR (n:Layer) REQUIRE n.id IS UNIQUE;
CREATE CONSTRAINT snapshot_id IF NOT EXISTS FOR (n:Snapshot) REQUIRE n.id IS UNIQUE;
CREATE CONSTRAINT mask_digest IF NOT EXISTS FOR (n:Mask) REQUIRE n.digest IS UNIQUE;
CREATE CONSTRAINT mask_part_id IF NOT EXISTS FOR (n:MaskPart) REQUIRE n.id IS UNIQUE;
CREATE CONSTRAINT neuron_id IF NOT EXISTS FOR (n:Neuron) REQUIRE n.id IS UNIQUE;
CREATE CONSTRAINT topology_digest IF NOT EXISTS FOR (n:Topology) REQUIRE n.digest IS UNIQUE;
CREATE CONSTRAINT distance_block_id IF NOT EXISTS FOR (n:DistanceBlock) REQUIRE n.id IS UNIQUE;
CREATE CONSTRAINT inference_id IF NOT EXISTS FOR (n:Inference) REQUIRE n.id IS UNIQUE;
CREATE INDEX topology_family IF NOT EXISTS FOR (n:Topology) ON (n.family);
CREATE INDEX snapshot_run IF NOT EXISTS FOR (n:Snapshot) ON (n.run);
CREATE INDEX snapshot_digest IF NOT EXISTS FOR (n:Snapshot) ON (n.digest);
CREATE INDEX layer_run IF NOT EXISTS FOR (n:Layer) ON (n.run);
CREATE INDEX neuron_place IF NOT EXISTS FOR (n:Neuron) ON (n.run, n.space);
CREATE INDEX inferred_by IF NOT EXISTS FOR ()-[e:INFERRED_FROM]-() ON (e.inference);
