// title: When was a connection born, and when did it die?
// purpose: One row for each of its lives; `died` is empty while it lives.
// parameters: from, to
// columns: layer, tap, born, died
// example: {"from": "w0/input/20", "to": "w0/hidden1/5"}
MATCH (:Neuron {id: $from})-[c:CONNECTS]->(:Neuron {id: $to})
RETURN c.layer AS layer, c.tap AS tap, c.born_step AS born, c.died_step AS died
ORDER BY layer, tap, born
