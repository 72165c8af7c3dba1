// purpose: Say that nobody is at work on the connections of a run, unless another projector is. Step: up to which they are in the graph; where the run went on meanwhile they wait again, behind those of other runs. Null: they were left unfinished.
// parameters: run, token, epoch, step
// columns: waits
MATCH (r:Run {id: $run})
SET r.guard = $token
WITH r
WHERE r.writer_epoch = $epoch
SET r.drawn_until = null, r.connections_wait = CASE WHEN $step IS NULL THEN r.connections_wait
  WHEN r.last_step > $step THEN timestamp() ELSE null END
RETURN r.connections_wait IS NOT NULL AS waits
