// purpose: First statement of every batch of a projection: take the run's lock, then see whether this projector still holds it and which batch was the last; the batch counts as written when this is committed. Half says whether a step is half written after it.
// parameters: run, token, epoch, batch, half
// columns: epoch, batch
MATCH (r:Run {id: $run})
SET r.guard = $token
WITH r, r.writer_epoch AS epoch, r.writer_batch AS batch
SET r.writer_batch = CASE WHEN epoch = $epoch AND batch < $batch THEN $batch ELSE batch END,
  r.half_written = CASE WHEN epoch = $epoch AND batch < $batch THEN $half ELSE r.half_written END,
  r.drawn_until = CASE WHEN epoch = $epoch AND r.drawn_until IS NOT NULL THEN timestamp() + 60000 ELSE r.drawn_until END
RETURN epoch, batch
