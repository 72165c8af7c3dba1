// purpose: Say of which format the archive is from now on.
// parameters: format
// columns: format
MATCH (a:Archive)
SET a.format = $format
RETURN a.format AS format
