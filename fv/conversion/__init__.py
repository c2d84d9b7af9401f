"""From folders of face images to shards of pairs. Nothing here imports TensorFlow."""
