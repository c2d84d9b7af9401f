"""What a host can feed and what a model takes, in one unit: images per second."""
