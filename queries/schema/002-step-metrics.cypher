// purpose: The constraint of a run's metrics at its steps; an archive that is older gets it with its first such metrics.
// parameters: none
// columns: none
CREATE CONSTRAINT step_metrics_id IF NOT EXISTS FOR (n:StepMetrics) REQUIRE n.id IS UNIQUE;
