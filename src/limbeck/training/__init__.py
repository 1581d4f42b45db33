"""Training: the loop, its state and checkpoints, objectives, optimisers, schedules and the self-check."""
