// purpose: The constraint of the archive's clock and the index of its changes; an archive that is older gets them with its next change.
// parameters: none
// columns: none
CREATE CONSTRAINT clock_name IF NOT EXISTS FOR (n:Clock) REQUIRE n.name IS UNIQUE;
CREATE INDEX change_moment IF NOT EXISTS FOR (n:Change) ON (n.moment);
