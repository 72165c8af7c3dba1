// purpose: Become the one projector of a run: whoever held it before cannot write any more. Half says whether it may have left a step half written; drawn, whether somebody is at work on connections that wait, who says so again with every batch for a minute.
// parameters: run
// columns: epoch, first_step, last_step, half, waits, drawn
MATCH (r:Run {id: $run})
SET r.writer_epoch = coalesce(r.writer_epoch, 0) + 1, r.writer_batch = 0
WITH r, r.connections_wait IS NOT NULL AS waits, coalesce(r.drawn_until > timestamp(), false) AS drawn
SET r.drawn_until = CASE WHEN waits THEN timestamp() + 60000 ELSE null END
RETURN r.writer_epoch AS epoch, r.first_step AS first_step, r.last_step AS last_step,
  coalesce(r.half_written, true) AS half, waits, drawn
