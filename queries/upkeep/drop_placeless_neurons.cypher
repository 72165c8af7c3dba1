// purpose: Take neurons of a run away whose id is not that of their place, with their connections.
// parameters: prefix
// columns: dropped
MATCH (n:Neuron)
WHERE n.id STARTS WITH $prefix
  AND (n.run IS NULL OR n.space IS NULL OR n.index IS NULL OR n.id <> n.run + '/' + n.space + '/' + toString(n.index))
DETACH DELETE n
RETURN count(*) AS dropped
