"""What runs inside a training job: it costs a gap in a chart, never a run."""
