// title: Runs with a tag
// purpose: Tags are a list on the run; `config` is the run's configuration as JSON text.
// parameters: tag
// columns: run, status, config
// example: {"tag": "set"}
MATCH (r:Run)
WHERE $tag IN r.tags AND r.removed_at IS NULL
RETURN r.id AS run, r.status AS status, r.config AS config
ORDER BY run
