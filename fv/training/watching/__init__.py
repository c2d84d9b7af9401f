"""What a person watches: progress, TensorBoard, validation, the run's record and summary."""
