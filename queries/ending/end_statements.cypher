// purpose: Ends statements that run now, which closing their connection does not on the embedded engine.
// parameters: ids
// columns: none
TERMINATE TRANSACTIONS $ids
