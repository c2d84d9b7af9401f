"""One way of training the same siamese network: `train(work)` trains without end and yields whenever it has done another
`work.stamp_steps` steps, on the device too. fv itself is its own command.

Every peer trains on one batch that is in memory, fv on real shards. A module imports its package at the top: one that is not
installed is found missing when the module is imported.
"""

TITLES = {
    "fv": "fv: python -m fv.train on real shards",
    "fv_augmented": "fv with its default augmentation",
    "bare_step": "bare compiled step, tf.function, one batch in memory",
    "keras_fit": "tf_keras fit, one batch in memory",
    "torch_timm": "torch + timm, eager, one batch in memory",
}
