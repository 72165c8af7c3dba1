// purpose: The index by which a Neo4j server finds the connections that died; the embedded engine finds them by their ends.
// parameters: none
// columns: none
CREATE INDEX connects_alive IF NOT EXISTS FOR ()-[c:CONNECTS]-() ON (c.alive);
