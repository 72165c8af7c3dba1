// purpose: Units of a space of several axes. A row: flat index, then an index by the name of each axis.
// parameters: run, space, rows
// columns: neurons
UNWIND $rows AS row
MERGE (n:Neuron {id: $run + '/' + $space + '/' + toString(row[0])})
ON CREATE SET n.run = $run, n.space = $space, n.index = row[0]
SET n += row[1]
RETURN count(n) AS neurons
