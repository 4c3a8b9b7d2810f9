"""From logs to a release: the trainees, their losses, the loop, checkpoints, presets and the run."""
