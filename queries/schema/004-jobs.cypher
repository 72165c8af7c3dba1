// purpose: The constraints of jobs and their results; an archive that is older gets them with its first job.
// parameters: none
// columns: none
CREATE CONSTRAINT job_id IF NOT EXISTS FOR (n:Job) REQUIRE n.id IS UNIQUE;
CREATE CONSTRAINT job_part_id IF NOT EXISTS FOR (n:JobPart) REQUIRE n.id IS UNIQUE;
