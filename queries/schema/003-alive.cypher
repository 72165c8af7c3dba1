// purpose: The index by which a connection that died is found; an embedded archive that is older gets it with its next connections.
// parameters: none
// columns: none
CREATE INDEX connects_alive IF NOT EXISTS FOR ()-[c:CONNECTS]-() ON (c.alive);
