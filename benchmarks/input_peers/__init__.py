"""One way of feeding pairs a file: `batches(work)` yields images [batch, 2, side, side, 3] without end, shuffled.

Images are uint8. A module imports its package at the top: one that is not
installed is found missing when the module is imported.
"""

TITLES = {
    "fv_pipeline": "fv",
    "threads": "Python threads, simplejpeg + OpenCV, no framework",
    "numpy_function": "tf.data, batch parse + numpy_function, simplejpeg + OpenCV",
    "torch_batches": "torch DataLoader, simplejpeg + OpenCV, a batch per item",
    "fused_map": "tf.data, one fused map",
}
