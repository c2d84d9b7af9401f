import io

import pytest

from fv import record

PAIR = {
    record.IMAGE_A: b"\xff\xd8\xff" + bytes(300),
    record.IMAGE_B: b"\xff\xd8\xff" + bytes(70_000),
    record.IDENTITY_A: "Zoë".encode(),
    record.IDENTITY_B: b"",
    record.PATH_A: b"a/1.jpg",
    record.PATH_B: b"b/1.jpg",
    record.LABEL: record.GENUINE,
}


def example_of(pair, **more):
    """The pair as TensorFlow builds it."""
    tf = pytest.importorskip("tensorflow")
    features = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[pair[name]]))
        for name in record.BYTES_FIELDS
    }
    label = tf.train.Int64List(value=[pair[record.LABEL]])
    features[record.LABEL] = tf.train.Feature(int64_list=label)
    return tf.train.Example(features=tf.train.Features(feature={**features, **more}))


@pytest.mark.parametrize("label", [record.GENUINE, record.IMPOSTOR])
def test_a_record_has_the_bytes_of_protobufs_deterministic_serialisation(label):
    pair = {**PAIR, record.LABEL: label}
    assert record.encode_pair(pair) == example_of(pair).SerializeToString(deterministic=True)


@pytest.mark.parametrize("label", [0, 1, 300, -1])
def test_what_tensorflow_wrote_is_read(label):
    pair = {**PAIR, record.LABEL: label}
    assert record.decode_pair(example_of(pair).SerializeToString()) == pair


def test_what_was_written_is_read():
    assert record.decode_pair(record.encode_pair(PAIR)) == PAIR


def test_further_features_are_passed_over():
    tf = pytest.importorskip("tensorflow")
    scores = tf.train.Feature(float_list=tf.train.FloatList(value=[1.5, 2.5]))
    assert record.decode_pair(example_of(PAIR, scores=scores).SerializeToString()) == PAIR


def test_frames_are_what_tensorflow_reads_and_writes(tmp_path):
    tf = pytest.importorskip("tensorflow")
    written = [record.encode_pair(PAIR), b"", b"x" * 5000]
    ours, theirs = str(tmp_path / "ours"), str(tmp_path / "theirs")
    with open(ours, "wb") as file:
        file.writelines(map(record.frame, written))
    with tf.io.TFRecordWriter(theirs) as writer:
        for data in written:
            writer.write(data)
    with open(ours, "rb") as first, open(theirs, "rb") as second:
        assert first.read() == second.read()
    with open(theirs, "rb") as file:
        assert [data for _, data in record.read_frames(file)] == written


def test_the_message_class_reads_tensorflows_bytes_and_ignores_floats():
    tf = pytest.importorskip("tensorflow")
    written = tf.train.Example()
    written.features.feature["bytes"].bytes_list.value.extend([b"", b"\xff\0"])
    written.features.feature["integers"].int64_list.value.extend([-1, 2**62])
    written.features.feature["floats"].float_list.value.append(1.5)
    read = record.Example.FromString(written.SerializeToString()).features.feature
    assert list(read["bytes"].bytes_list.value) == [b"", b"\xff\0"]
    assert list(read["integers"].int64_list.value) == [-1, 2**62]
    assert not read["floats"].ListFields()


def test_a_missing_field_is_named_when_writing():
    with pytest.raises(KeyError, match="image_b/path"):
        record.encode_pair({name: value for name, value in PAIR.items() if name != record.PATH_B})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "field image_a/encoded is missing"),
        (b"not an example", "not a tf.train.Example"),
        (b"\x0a\x00", "field image_a/encoded is missing"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "not a tf.train.Example"),
        (record.encode_pair(PAIR)[:-5], "not a tf.train.Example"),
        (record.encode_pair(PAIR).replace(b"label", b"lebal"), "field label is missing"),
    ],
)
def test_bytes_that_are_no_pair_are_refused(data, message):
    with pytest.raises(record.DamagedRecordError, match=message):
        record.decode_pair(data)


def test_a_label_in_bytes_is_refused():
    tf = pytest.importorskip("tensorflow")
    wrong = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"1"]))
    with pytest.raises(record.DamagedRecordError, match="label as int64"):
        record.decode_pair(example_of(PAIR, **{record.LABEL: wrong}).SerializeToString())


@pytest.mark.parametrize("at", [0, 9, 12, 400, -1])
def test_a_flipped_bit_is_found_in_the_record_that_has_it(at):
    frames = [record.frame(record.encode_pair(PAIR)) for _ in range(3)]
    broken = bytearray(frames[1])
    broken[at] ^= 4
    reader = record.read_frames(io.BytesIO(frames[0] + broken + frames[2]))
    assert next(reader)[0] == 0
    with pytest.raises(
        record.DamagedRecordError, match="does not match its checksum|the file ends"
    ):
        next(reader)


@pytest.mark.parametrize("left", [1, 11, 12, 50])
def test_a_file_cut_short_is_found(left):
    frame = record.frame(record.encode_pair(PAIR))
    reader = record.read_frames(io.BytesIO(frame + frame[:left]))
    next(reader)
    with pytest.raises(record.DamagedRecordError, match="the file ends inside"):
        next(reader)


PAIR_OF_TWO = {**PAIR, record.IDENTITY_B: b"b", record.LABEL: record.IMPOSTOR}
PARSED = record.Pair(
    (PAIR[record.IMAGE_A], PAIR[record.IMAGE_B]),
    record.IMPOSTOR,
    ("Zoë".encode(), b"b", PAIR[record.PATH_A], PAIR[record.PATH_B]),
)


def serialise(fields: dict) -> bytes:
    """An Example of these fields only."""
    example = record.Example()
    for name, value in fields.items():
        kind = example.features.feature[name]
        (kind.int64_list if name == record.LABEL else kind.bytes_list).value.append(value)
    return example.SerializeToString()


def test_a_pair_is_parsed_from_what_the_converter_wrote():
    assert record.parse_pair(record.encode_pair(PAIR_OF_TWO)) == PARSED


def test_a_pair_is_parsed_from_any_serialisation_that_protobuf_allows():
    tf = pytest.importorskip("tensorflow")
    backwards = [serialise({name: PAIR_OF_TWO[name]}) for name in reversed(PAIR_OF_TWO)]
    more = tf.train.Example()
    more.features.feature["scores"].float_list.value.extend([1.5, 2.5])
    unpacked = b"\x0a\x0f\x0a\x0d\x0a\x05label\x12\x04\x1a\x02\x08\x00"  # which proto2 writes
    assert record.parse_pair(b"".join(backwards) + more.SerializeToString()) == PARSED
    assert record.parse_pair(b"".join(backwards[1:]) + unpacked) == PARSED


@pytest.mark.parametrize("name", [record.IMAGE_A, record.IMAGE_B, record.IDENTITY_B, record.LABEL])
def test_a_missing_field_is_named_when_parsing_a_pair(name):
    fields = {other: PAIR_OF_TWO[other] for other in PAIR_OF_TWO if other != name}
    with pytest.raises(record.DamagedRecordError, match=f"field {name} is missing"):
        record.parse_pair(serialise(fields))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xffno example", "not a tf.train.Example"),
        (b"", "field image_a/encoded is missing"),
        (record.encode_pair({**PAIR_OF_TWO, record.LABEL: 2}), "label is neither 0 nor 1"),
    ],
)
def test_bytes_that_are_no_pair_are_not_parsed(data, message):
    with pytest.raises(record.DamagedRecordError, match=message):
        record.parse_pair(data)


def test_two_values_of_one_field_are_refused():
    example = record.Example.FromString(serialise(PAIR_OF_TWO))
    example.features.feature[record.IMAGE_A].bytes_list.value.append(b"another")
    with pytest.raises(record.DamagedRecordError, match="2 values of image_a/encoded"):
        record.parse_pair(example.SerializeToString())
