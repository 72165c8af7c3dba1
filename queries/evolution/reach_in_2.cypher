// purpose: The neurons that a neuron reaches over exactly 2 connections alive at a step.
// parameters: id, step
// columns: id
MATCH p = (:Neuron {id: $id})-[:CONNECTS*2..2]->(n:Neuron)
WHERE all(c IN relationships(p) WHERE c.born_step <= $step AND (c.died_step IS NULL OR c.died_step > $step))
RETURN DISTINCT n.id AS id
ORDER BY id
