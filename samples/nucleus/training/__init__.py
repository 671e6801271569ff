"""Training: stages, runs and tuning."""
