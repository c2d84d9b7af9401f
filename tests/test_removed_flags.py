"""Tests of fv.removed_flags."""

import dataclasses
import json

import pytest
from absl import flags

from fv import manifest, options, removed_flags
from fv.errors import UserError
from fv.model import model_record
from fv.model.options import ModelOptions
from fv.training.options import TrainOptions
from fv.training.run import train


def now(*old: str) -> TrainOptions:
    """The options that the arguments of an earlier version stand for."""
    values = flags.FlagValues()
    options.define_flags(TrainOptions, values)
    arguments = ["--tfrecords=shards", "--workdir=run", *old]
    values(["train", *removed_flags.translate(arguments, values)])
    return options.from_flags(TrainOptions, values)


def test_removed_flags_at_their_fixed_values_change_nothing():
    old = """--init_weights=none --init_checkpoint=last --freeze_backbone=false --softmax_margin=0.1
        --softmax_angular_margin=0.0 --softmax_margin_steps= --contrastive_margin=1.0
        --triplet_margin=0.2 --min_scale=0.85 --max_scale=1.0 --brightness=0.15 --contrast=0.2
        --saturation=0.0 --blur=0.0 --jpeg=0.0 --tpu= --workers= --cluster=tf_config
        --base_batch_size=256 --freeze_backbone_steps=0
        --average_momentum=0.999 --swa_start=0.75 --shuffle_buffer=2048 --sample_pairs=8
        --profile_steps=
        --synthetic_input=false --checkpoint_minutes=10.0 --keep_checkpoints=3 --keep_best=auc"""
    assert now(*old.split()) == now()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--min_scale=0.9 --max_scale=1.1", "--scale=0.9,1.1"),
        ("--min_scale=0.9 --max_scale=1.1 --scale=0.7", "--scale=0.7,1.0"),
        ("--contrast=0.3 --brightness=0.1", "--color_jitter=0.1,0.3,0"),
        ("--saturation=0.4", "--color_jitter=0.15,0.2,0.4"),
        ("--blur=0.5 --jpeg=1", "--degrade=0.5"),
        ("--softmax_angular_margin=0.5 --softmax_margin=0", "--softmax_margin=0,0.5"),
        ("--freeze_backbone=true --freeze_backbone_steps=0", "--freeze_backbone_steps=-1"),
        ("--freeze_backbone=false --freeze_backbone_steps=7", "--freeze_backbone_steps=7"),
        ("--init_weights=first --init_checkpoint=best", "--init_weights=first@best"),
        ("--workers= --cluster=slurm --port=5000", "--workers=slurm:5000"),
        ("--workers= --cluster=slurm", "--workers=slurm"),
        ("--shuffle_buffer=7 --keep_best=none", ""),
    ],
)
def test_flags_that_were_merged_become_the_new_flag(old, new):
    assert now(*old.split()) == now(*new.split())


def test_a_removed_flag_whose_value_mattered_is_refused():
    with pytest.raises(flags.UnrecognizedFlagError, match="triplet_margin"):
        now("--triplet_margin=0.5")
    with pytest.raises(UserError, match="blur=1.0 and jpeg=1.0 are one flag now: give --degrade=S"):
        now("--blur=1", "--jpeg=1")


def test_records_of_this_version_and_of_earlier_ones_are_read():
    model = ModelOptions(feature_layer="mixed7", softmax_margin=(0.2, 0.3))
    record = json.loads(json.dumps(dataclasses.asdict(model)))
    assert removed_flags.from_record(ModelOptions, record) == model
    margins = {"softmax_margin": 0.2, "softmax_angular_margin": 0.3}
    removed = {"softmax_margin_steps": "2,4", "contrastive_margin": 0.5, "triplet_margin": 0.2}
    assert removed_flags.from_record(ModelOptions, record | margins | removed) == model
    lost = {"softmax_margin_steps": ("2,4", ""), "contrastive_margin": ("0.5", "1.0")}
    assert removed_flags.find_lost_values(record | margins | removed) == lost
    for wrong in ({"unknown": 1}, {"head": "none such"}):
        with pytest.raises(ValueError, match="unknown|none such"):
            removed_flags.from_record(ModelOptions, record | wrong)


def test_a_run_with_a_removed_margin_is_not_continued(tiny_run, tmp_path):
    model = dataclasses.replace(tiny_run.model, head="distance")
    identities = manifest.load(tiny_run.tfrecords).split("train").identities
    model_record.save(model_record.describe(model, identities), str(tmp_path))
    path = tmp_path / "model.json"
    content = json.loads(path.read_text())
    content["options"]["contrastive_margin"] = 0.5
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"contrastive_margin=0\.5, which is now always 1\.0"):
        train(dataclasses.replace(tiny_run, model=model, workdir=str(tmp_path)))
    assert json.loads(path.read_text()) == content
