// purpose: First statement of every batch of a projection: take the run's lock, then see whether this projector still holds it and which batch was the last.
// parameters: run, token
// columns: epoch, batch
MATCH (r:Run {id: $run})
SET r.guard = $token
RETURN r.writer_epoch AS epoch, r.writer_batch AS batch
