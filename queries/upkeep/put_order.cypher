// purpose: Say which snapshot follows which. A row: id, id of the following one.
// parameters: rows
// columns: put
UNWIND $rows AS row
MATCH (a:Snapshot {id: row[0]})
MATCH (b:Snapshot {id: row[1]})
CREATE (a)-[:NEXT]->(b)
RETURN count(*) AS put
