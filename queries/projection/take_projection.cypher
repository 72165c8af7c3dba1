// purpose: Become the one projector of a run: whoever held it before cannot write any more. Half says whether it may have left a step half written.
// parameters: run
// columns: epoch, first_step, last_step, half
MATCH (r:Run {id: $run})
SET r.writer_epoch = coalesce(r.writer_epoch, 0) + 1, r.writer_batch = 0
RETURN r.writer_epoch AS epoch, r.first_step AS first_step, r.last_step AS last_step,
  coalesce(r.half_written, true) AS half
