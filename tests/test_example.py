import tensorflow as tf

from fv import example


def test_it_reads_what_tensorflow_wrote_and_passes_over_floats():
    written = tf.train.Example()
    written.features.feature["bytes"].bytes_list.value.extend([b"", b"\xff\0"])
    written.features.feature["integers"].int64_list.value.extend([-1, 2**62])
    written.features.feature["floats"].float_list.value.append(1.5)
    read = example.Example.FromString(written.SerializeToString()).features.feature
    assert list(read["bytes"].bytes_list.value) == [b"", b"\xff\0"]
    assert list(read["integers"].int64_list.value) == [-1, 2**62]
    assert not read["floats"].ListFields()
