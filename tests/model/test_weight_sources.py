import tf_keras

from fv.model import backbones, weight_sources


def test_a_network_s_names_are_the_same_in_the_first_build_and_in_later_ones():
    first, second = (backbones.build_plain("tiny", (32, 32, 3), None) for _ in range(2))
    names = [[layer.name for layer in model.layers] for model in (first, second)]
    assert names[0] != names[1] and weight_sources.stable_names(
        names[0]
    ) == weight_sources.stable_names(names[1])


def test_numbers_are_counted_from_the_lowest_of_their_kind_and_names_that_end_otherwise_stay():
    names = [
        "conv2d_94",
        "batch_normalization_7",
        "conv2d_96",
        "conv2_block1_1_conv",
        "expanded_conv_3/expand",
    ]
    assert weight_sources.stable_names(names) == [
        "conv2d",
        "batch_normalization",
        "conv2d_2",
        *names[3:],
    ]
    assert weight_sources.stable_names(["conv2d", "conv2d_1"]) == ["conv2d", "conv2d_1"]


def test_classes_are_counted_as_tf_keras_counts_them_in_weights_files():
    kinds = (
        tf_keras.layers.Conv2D(1, 1),
        tf_keras.layers.BatchNormalization(),
        tf_keras.layers.Conv2D(1, 1),
    )
    depthwise = tf_keras.layers.DepthwiseConv2D(1)
    assert weight_sources.names_by_class([*kinds, depthwise]) == [
        "conv2d",
        "batch_normalization",
        "conv2d_1",
        "depthwise_conv2d",
    ]
