"""What a run leaves in its workdir, the contract between training, evaluation and export.

train.flags     the resolved flags, in a form that --flagfile reads back
model.json      what rebuilds the model (`fv.model.model_record`)
checkpoints/    TensorFlow checkpoints of weights, optimizer and step
tensorboard/    scalars
metrics.json    what fv.evaluate measured, with roc.png and histogram.png beside it
"""

FLAGS = "train.flags"
MODEL = "model.json"
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"
METRICS = "metrics.json"
