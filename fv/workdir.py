"""What a run leaves in its workdir, the contract between training, evaluation and export.

train.flags     the resolved flags, in a form that --flagfile reads back
model.json      what rebuilds the model (`fv.model.model_record`)
checkpoints/    TensorFlow checkpoints of all that a run needs to go on: weights, optimizer, step
best/           the checkpoint that validated best, and validation.json, which says how well
run.json        what each start computed with and how it ended (`fv.training.watching.run_record`)
tensorboard/    scalars, similarities and sample pairs of each validation, profiles
metrics.json    what fv.evaluate measured, with report.html, scores.csv and pictures beside it
"""

FLAGS = "train.flags"
MODEL = "model.json"
RUN = "run.json"
CHECKPOINTS = "checkpoints"
BEST = "best"
TENSORBOARD = "tensorboard"
METRICS = "metrics.json"
