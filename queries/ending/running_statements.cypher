// purpose: The statements that run now and hold a mark in their text, for the embedded engine.
// parameters: token
// columns: id
SHOW TRANSACTIONS YIELD transactionId, currentQuery
WHERE currentQuery CONTAINS $token
RETURN transactionId AS id
