"""Tests of fv.options."""

import dataclasses

import pytest
from absl import flags

from fv import options
from fv.errors import UserError


@dataclasses.dataclass(frozen=True)
class Augment:
    """A group."""

    flip: bool = options.option(True, "Mirror at random.")
    noise: float = options.option(1e-7, "Standard deviation.", lower=0.0)
    sizes: tuple[float, float] = options.option(
        (0.5, 2.0), "A,B: smallest and largest.", lower=(0.1, 1.0), upper=(1.0, 4.0)
    )


@dataclasses.dataclass(frozen=True)
class Train:
    """Options with one of each kind."""

    tfrecords: str = options.required("folder of shards.")
    steps: int = options.option(100, "Training steps.", lower=1)
    limit: int | None = options.option(None, "Examples to read, all if not given.", lower=1)
    head: str = options.option("cosine", "Head.", choices=["cosine", "distance"])
    note: str = options.option("", "Free text.")
    layer: str | None = options.option(None, "Layer, the last if not given.")
    augment: Augment = options.group(Augment)


def parse(*arguments: str) -> Train:
    values = flags.FlagValues()
    options.define_flags(Train, values)
    values(["train", *arguments])
    return options.from_flags(Train, values)


def test_flags_not_given_take_the_dataclass_defaults():
    assert parse("--tfrecords=shards") == Train(tfrecords="shards")


def test_flags_reach_plain_and_grouped_fields_with_their_types():
    given = parse(
        "--tfrecords=shards", "--steps=7", "--limit=3", "--head=distance", "--noflip", "--noise=0.5"
    )
    expected = Train(
        "shards", steps=7, limit=3, head="distance", augment=Augment(flip=False, noise=0.5)
    )
    assert given == expected
    assert type(given.steps) is int and type(given.augment.noise) is float


def test_a_missing_required_flag_is_named_with_what_it_is():
    with pytest.raises(UserError, match=r"--tfrecords is missing: folder of shards\."):
        parse("--steps=7")


@pytest.mark.parametrize(
    "argument",
    [
        *("--steps=0", "--steps=many", "--limit=0", "--noise=-1", "--head=linear"),
        *("--flip=perhaps", "--sizes=0", "--sizes=0.5,5", "--sizes=1,2,3", "--sizes=nan"),
        "--sizes=,",
    ],
)
def test_a_value_out_of_range_or_of_the_wrong_kind_is_refused(argument):
    with pytest.raises(flags.IllegalFlagValueError, match=argument.partition("=")[2]):
        parse("--tfrecords=shards", argument)


@pytest.mark.parametrize(
    "given",
    [
        Train("shards"),
        Train("a folder/with # and = signs", steps=7, limit=3, head="distance", note="two words"),
        Train("shards", augment=Augment(flip=False, noise=0.1 + 0.2, sizes=(0.1 + 0.2, 3.0))),
    ],
)
def test_a_saved_flagfile_reads_back_as_the_same_options(given, tmp_path):
    flagfile = tmp_path / "saved.flags"
    flagfile.write_text(options.to_flagfile(given))
    assert parse(f"--flagfile={flagfile}") == given


def test_describe_gives_every_flag_in_order_with_default_and_choices():
    described = dict(options.describe(Train))
    assert list(described) == [
        "--tfrecords=",
        "--steps=100",
        "--limit=",
        "--head=cosine",
        "--note=",
        "--layer=",
        "--flip=True",
        "--noise=1e-07",
        "--sizes=0.5,2.0",
    ]
    assert described["--head=cosine"] == "Head. One of cosine, distance."
    assert described["--tfrecords="] == "Required: folder of shards."


@pytest.mark.parametrize("text", ["nan", "inf", "1e999"])
def test_a_number_that_is_not_finite_is_no_flag_s_value(text):
    with pytest.raises(flags.IllegalFlagValueError, match="--noise.*a finite number"):
        parse("--tfrecords=shards", f"--noise={text}")


def test_an_empty_value_takes_back_the_value_of_a_flagfile(tmp_path):
    flagfile = tmp_path / "base.flags"
    flagfile.write_text("--tfrecords=shards\n--layer=mixed7\n--note=a note\n")
    assert parse(f"--flagfile={flagfile}").layer == "mixed7"
    assert parse(f"--flagfile={flagfile}", "--layer=", "--note=") == parse("--tfrecords=shards")


def test_numbers_left_out_at_the_end_are_as_by_default():
    assert parse("--tfrecords=shards", "--sizes=0.7").augment.sizes == (0.7, 2.0)
    assert parse("--tfrecords=shards", "--sizes=0.7,3").augment.sizes == (0.7, 3.0)
