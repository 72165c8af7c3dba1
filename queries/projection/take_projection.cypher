// purpose: Become the one projector of a run: whoever held it before cannot write any more.
// parameters: run
// columns: epoch, last_step
MATCH (r:Run {id: $run})
SET r.writer_epoch = coalesce(r.writer_epoch, 0) + 1, r.writer_batch = 0
RETURN r.writer_epoch AS epoch, r.last_step AS last_step
