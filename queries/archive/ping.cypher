// purpose: Whether the database answers.
// parameters: none
// columns: ok
RETURN 1 AS ok
