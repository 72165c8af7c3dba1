// purpose: Say of a run, whose projector this is, that nothing of its layers is projected, before their connections are taken away; from which step on they are whole stays, for whoever goes on after this was interrupted; who looks for connections that wait leaves it alone meanwhile.
// parameters: run
// columns: layers
MATCH (r:Run {id: $run})-[:HAS_LAYER]->(y:Layer)
SET r.half_written = true, r.drawn_until = timestamp() + 60000, y.lifetimes = 0, y.projection = CASE y.projection WHEN 'limit' THEN 'follow' ELSE y.projection END
REMOVE y.projected_step, y.trimming
RETURN count(y) AS layers
