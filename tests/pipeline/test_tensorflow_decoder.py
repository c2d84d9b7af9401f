import numpy as np
import pytest
import tensorflow as tf

from fv import record
from fv.pipeline import tensorflow_decoder
from fv.record import Pair
from tests import test_record

PAIR = {**test_record.PAIR, record.IDENTITY_B: b"b", record.LABEL: record.IMPOSTOR}
FOUND = Pair((PAIR[record.IMAGE_A], PAIR[record.IMAGE_B]), record.IMPOSTOR, ("Zoë".encode(), b"b"))


def example_of(pair: dict) -> tf.train.Example:
    example = tf.train.Example()
    for name, value in pair.items():
        kind = example.features.feature[name]
        (kind.int64_list if name == record.LABEL else kind.bytes_list).value.append(value)
    return example


def test_the_host_finds_what_the_converter_wrote():
    assert record.parse_pair(record.encode_pair(PAIR)) == FOUND


def test_the_host_takes_any_order_further_features_and_whatever_else_protobuf_allows():
    backwards = [example_of({name: PAIR[name]}).SerializeToString() for name in reversed(PAIR)]
    more = tf.train.Example()
    more.features.feature["scores"].float_list.value.extend([1.5, 2.5])
    unpacked = b"\x0a\x0f\x0a\x0d\x0a\x05label\x12\x04\x1a\x02\x08\x00"  # which proto2 writes
    assert record.parse_pair(b"".join(backwards) + more.SerializeToString()) == FOUND
    assert record.parse_pair(b"".join(backwards[1:]) + unpacked) == FOUND


@pytest.mark.parametrize("name", [record.IMAGE_A, record.IMAGE_B, record.IDENTITY_B, record.LABEL])
def test_a_field_that_is_missing_is_named(name):
    with pytest.raises(record.DamagedRecordError, match=f"field {name} is missing"):
        record.parse_pair(
            example_of({other: PAIR[other] for other in PAIR if other != name}).SerializeToString()
        )


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xffno example", "not a tf.train.Example"),
        (b"", "field image_a/encoded is missing"),
        (record.encode_pair({**PAIR, record.LABEL: 2}), "label is neither 0 nor 1"),
    ],
)
def test_what_is_no_pair_is_refused(data, said):
    with pytest.raises(record.DamagedRecordError, match=said):
        record.parse_pair(data)


def test_two_values_where_one_belongs_are_refused():
    example = example_of(PAIR)
    example.features.feature[record.IMAGE_A].bytes_list.value.append(b"another")
    with pytest.raises(record.DamagedRecordError, match="2 values of image_a/encoded"):
        record.parse_pair(example.SerializeToString())


@pytest.mark.parametrize("names", [(), ("a", "Zoë", "b")])
def test_both_ways_of_indexing_identities_agree(names):
    asked = [b"a", "Zoë".encode(), b"stranger"]
    expected = tensorflow_decoder.identity_indexer(names)(tf.constant(asked)).numpy()
    np.testing.assert_array_equal(record.identity_indexer(names)(asked), expected)
