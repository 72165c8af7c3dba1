// purpose: Remember that a batch of a projection is written, so that a repeated commit changes nothing.
// parameters: run, batch
// columns: batch
MATCH (r:Run {id: $run})
SET r.writer_batch = $batch
RETURN r.writer_batch AS batch
