// purpose: Say that so many lifetimes of a layer were taken away, and whether more are to be.
// parameters: id, dropped, trimming
// columns: lifetimes
MATCH (y:Layer {id: $id})
SET y.lifetimes = y.lifetimes - $dropped, y.trimming = CASE WHEN $trimming THEN true END
RETURN y.lifetimes AS lifetimes
