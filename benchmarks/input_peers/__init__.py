"""One way of feeding pairs a file: `batches(work)` yields images [batch, 2, side, side, 3] without end, shuffled.

Values are 0 to 255, uint8 but for those that are float32 by nature. A module imports its package at the top: one that is not
installed is found missing when the module is imported.
"""

TITLES = {
    "fv_pipeline": "fv",
    "threads": "Python threads, simplejpeg + OpenCV, no framework",
    "numpy_function": "tf.data, batch parse + numpy_function, simplejpeg + OpenCV",
    "torch_batches": "torch DataLoader, simplejpeg + OpenCV, a batch per item",
    "fused_map": "tf.data, one fused map",
    "keras_directory": "Keras image_dataset_from_directory",
    "grain_records": "Grain + ArrayRecord + simplejpeg, threads",
    "five_maps": "tf.data, five maps, float32",
    "dali_cpu": "DALI, CPU pipeline, fast DCT",
    "torch_pillow": "torch DataLoader, Pillow",
    "keras_generator": "Keras ImageDataGenerator",
}
