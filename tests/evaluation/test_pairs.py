import dataclasses
import io
import shutil

import numpy as np
import pytest
from PIL import Image

from fv.conversion import storage
from fv.conversion.image_files import BadImage
from fv.errors import UserError
from fv.evaluation import pairs as pairs_module
from fv.preprocessing import Preprocessing
from tests import samples
from tests.evaluation.making import pair_set


def test_the_digest_is_of_the_pairs_and_their_labels_whatever_their_order():
    pairs = pair_set()
    order = np.random.default_rng(0).permutation(len(pairs))
    moved = {name: getattr(pairs, name)[order] for name in ("first", "second", "labels", "folds")}
    assert dataclasses.replace(pairs, **moved).digest() == pairs.digest()
    assert (
        dataclasses.replace(pairs, first=pairs.second, second=pairs.first).digest()
        == pairs.digest()
    )


def test_other_pairs_and_other_labels_have_another_digest():
    pairs = pair_set()
    others = [
        dataclasses.replace(pairs, labels=1 - pairs.labels),
        pair_set(seed=1),
        pairs.select(pairs.labels == 1, ""),
    ]
    assert len({pairs.digest(), *(other.digest() for other in others)}) == 4


RULES = pairs_module.storage_rules(storage.Crop(), None)
HEADER = "image_a,image_b,label\n"
TWO_FOLDS = "2\t1\nAda\t1\t2\nAda\t1\tBob\t1\nCy\t1\t2\nCy\t1\tDi\t2\n"


@pytest.fixture(scope="module")
def listed_pairs_images(tmp_path_factory):
    """Four people, two images each, named as LFW's are; those of Di are PNG files."""
    folder = tmp_path_factory.mktemp("people")
    for number, name in enumerate(("Ada", "Bob", "Cy", "Di")):
        (folder / name).mkdir()
        form, suffix = ("PNG", ".png") if name == "Di" else ("JPEG", ".jpg")
        for image in (1, 2):
            (folder / name / f"{name}_{image:04d}{suffix}").write_bytes(
                samples.image_bytes(number, image, form=form)
            )
    return folder


def read(tmp_path, images, text, name="pairs.txt", **options):
    (tmp_path / name).write_text(text)
    arguments = dict(is_csv=name.endswith(".csv"), allow_missing=False) | options
    return pairs_module.read_listed_pairs(str(tmp_path / name), str(images), RULES, **arguments)


def test_a_list_in_lfw_format_has_the_folds_of_its_header(tmp_path, listed_pairs_images):
    pairs = read(tmp_path, listed_pairs_images, TWO_FOLDS)
    assert pairs.folds.tolist() == [0, 0, 1, 1] and pairs.labels.tolist() == [1, 0, 1, 0]
    ends = [
        (pairs.images.paths[a], pairs.images.paths[b])
        for a, b in zip(pairs.first, pairs.second, strict=True)
    ]
    assert ends[0] == ("Ada/Ada_0001.jpg", "Ada/Ada_0002.jpg") and ends[3] == (
        "Cy/Cy_0001.jpg",
        "Di/Di_0002.png",
    )
    assert (
        pairs.identities() == {"Ada", "Bob", "Cy", "Di"}
        and pairs.images.images_of_identity.tolist() == [2] * 6
    )


def test_an_image_is_read_as_the_converter_stores_it(tmp_path, listed_pairs_images):
    pairs = read(tmp_path, listed_pairs_images, TWO_FOLDS)
    sound, png = (pairs.images.paths.index(path) for path in ("Ada/Ada_0001.jpg", "Di/Di_0002.png"))
    assert pairs.images.read(sound) == (listed_pairs_images / "Ada/Ada_0001.jpg").read_bytes()
    assert pairs.images.read(png).startswith(b"\xff\xd8")


def test_a_csv_is_one_fold(tmp_path, listed_pairs_images):
    text = f"{HEADER}Ada/Ada_0001.jpg,Ada/Ada_0002.jpg,1\nAda/Ada_0001.jpg,Cy/Cy_0001.jpg,0\n"
    pairs = read(tmp_path, listed_pairs_images, text, "pairs.csv")
    assert pairs.folds.tolist() == [0, 0] and pairs.labels.tolist() == [1, 0]


def test_images_that_are_not_there_are_named_and_counted(tmp_path, listed_pairs_images):
    text = TWO_FOLDS.replace("Bob\t1", "Eve\t7").replace("Di\t2", "Di\t9")
    with pytest.raises(
        UserError,
        match=r"2 of 4 pairs lack one of 2 .*Eve/Eve_0007\.jpg, Di/Di_0009\.jpg.*allow_missing",
    ):
        read(tmp_path, listed_pairs_images, text)
    pairs = read(tmp_path, listed_pairs_images, text, allow_missing=True)
    assert pairs.labels.tolist() == [1, 1] and pairs.folds.tolist() == [0, 1]
    assert "2 of 4 pairs" in pairs.note and "Eve/Eve_0007.jpg" in pairs.note


def test_a_list_without_one_known_image_is_refused_whatever_is_allowed(
    tmp_path, listed_pairs_images
):
    with pytest.raises(UserError, match="2 of 2 pairs lack"):
        read(tmp_path, listed_pairs_images, "1\nEve\t1\t2\nEve\t1\tMax\t2\n", allow_missing=True)


def test_a_label_that_the_folders_contradict_is_refused(tmp_path, listed_pairs_images):
    with pytest.raises(UserError, match="line 2: labelled same, but"):
        read(
            tmp_path,
            listed_pairs_images,
            "image_a,image_b,label\nAda/Ada_0001.jpg,Cy/Cy_0001.jpg,1\n",
            "pairs.csv",
        )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Ada/Ada_0001.jpg,Ada/Ada_0001.jpg,1", r"line 3: a pair of Ada/Ada_0001\.jpg with itself"),
        ("Ada/Ada_0002.jpg,Ada/Ada_0001.jpg,1", "line 3: the pair of line 2 again"),
    ],
)
def test_a_pair_with_itself_or_listed_twice_is_refused_as_by_the_converter(
    tmp_path, listed_pairs_images, line, said
):
    with pytest.raises(UserError, match=said):
        read(
            tmp_path,
            listed_pairs_images,
            f"image_a,image_b,label\nAda/Ada_0001.jpg,Ada/Ada_0002.jpg,1\n{line}\n",
            "pairs.csv",
        )


def test_a_protocol_of_cfp_stands_as_it_was_published(tmp_path, listed_pairs_images):
    fold = tmp_path / "Split" / "FF" / "01"
    fold.mkdir(parents=True)
    (tmp_path / "Pair_list_F.txt").write_text(
        "".join(f"{n} ../Data/Ada/Ada_000{n}.jpg\n" for n in (1, 2)) + "3 ../Data/Bob/Bob_0001.jpg"
    )
    (fold / "same.txt").write_text("1,2\n2,1\n")
    (fold / "diff.txt").write_text("1,3\n")
    found = pairs_module.read_listed_pairs(
        str(fold.parent), str(listed_pairs_images), RULES, is_csv=False, allow_missing=False
    )
    assert found.labels.tolist() == [1, 1, 0] and found.name == "FF"
    (fold / "diff.txt").write_text("1,3\n1,2\n")
    with pytest.raises(UserError, match="01/diff.txt, line 2: labelled different, but Ada/"):
        pairs_module.read_listed_pairs(
            str(fold.parent), str(listed_pairs_images), RULES, is_csv=False, allow_missing=False
        )


def test_people_below_splits_are_read_at_the_identity_level(tmp_path, listed_pairs_images):
    for group, names in (("train", ("Ada", "Bob")), ("test", ("Cy", "Di"))):
        for name in names:
            shutil.copytree(listed_pairs_images / name, tmp_path / "faces" / group / name)
    with pytest.raises(UserError, match="named 'test', 'train'.*--identity_level=2"):
        read(tmp_path, tmp_path / "faces", TWO_FOLDS)
    pairs = read(tmp_path, tmp_path / "faces", TWO_FOLDS, identity_level=2)
    assert (
        pairs.identities() == {"Ada", "Bob", "Cy", "Di"}
        and "train/Ada/Ada_0001.jpg" in pairs.images.paths
    )


def test_names_written_in_two_ways_are_refused_joined_or_kept_apart(tmp_path, listed_pairs_images):
    shutil.copytree(listed_pairs_images, tmp_path / "faces")
    (tmp_path / "faces" / "Bob").rename(tmp_path / "faces" / "ada")
    pairs = HEADER + "Ada/Ada_0001.jpg,ada/Bob_0001.jpg,{}\nAda/Ada_0001.jpg,Cy/Cy_0001.jpg,0\n"
    arguments = (tmp_path, tmp_path / "faces")
    with pytest.raises(UserError, match="'Ada' and 'ada'.*--merge_names"):
        read(*arguments, pairs.format(0), "pairs.csv")
    joined = read(*arguments, pairs.format(1), "pairs.csv", merge_names=True)
    assert joined.identities() == {"Ada", "Cy"} and joined.images.images_of_identity.tolist() == [
        4,
        2,
        4,
    ]
    assert "1 identity joined from several folders" in joined.note
    assert read(*arguments, pairs.format(0), "pairs.csv", merge_names=False).identities() == {
        "Ada",
        "Cy",
        "ada",
    }


def test_images_are_stored_by_the_converter_s_defaults():
    assert (RULES.max_pixels, RULES.preprocessing) == (64_000_000, Preprocessing(jpeg_quality=95))


def test_a_missing_image_is_named_with_its_line_and_a_near_name(tmp_path, listed_pairs_images):
    text = f"{HEADER}Ada/Ada_0001.jpg,Bob/Bob_0001.jpg,0\nAda/Ada_0001.JPG,Cy/Cy_0001.jpg,0\n"
    said = (
        r"line 3: 1 of 2 pairs .*Ada/Ada_0001\.JPG "
        r"\(did you mean Ada/Ada_0001\.jpg\? Write it as the folder has it\)"
    )
    with pytest.raises(UserError, match=said):
        read(tmp_path, listed_pairs_images, text, "pairs.csv")


@pytest.mark.parametrize("folder", ["./Ada", "Ada/", " Ada", "Cy/../Ada", "{images}/Ada"])
def test_a_path_may_be_spelled_as_in_the_converter_s_lists(tmp_path, listed_pairs_images, folder):
    path = f"{folder.format(images=listed_pairs_images)}/Ada_0001.jpg"
    text = f"image_a,image_b,label\n{path},Cy/Cy_0001.jpg,false\n"
    assert read(tmp_path, listed_pairs_images, text, "pairs.csv").images.paths == [
        "Ada/Ada_0001.jpg",
        "Cy/Cy_0001.jpg",
    ]


def test_the_converter_s_crop_and_size_are_used():
    rules = pairs_module.storage_rules(storage.Crop(0.5), 64, 80)
    assert rules.preprocessing == Preprocessing(0.5, store_size=64, jpeg_quality=80)
    with pytest.raises(UserError, match="--crop=0.5 cuts images.*give --store_size too"):
        pairs_module.storage_rules(storage.Crop(0.5), None)


def test_boxes_cut_the_images_of_a_list_and_one_without_a_box_is_broken(
    tmp_path, listed_pairs_images
):
    rules, boxes = (
        pairs_module.storage_rules(storage.Crop(boxes={}), 8),
        {"Ada/Ada_0001.jpg": storage.Box(2, 2, 20, 10)},
    )
    path = tmp_path / "pairs.csv"
    path.write_text("image_a,image_b,label\nAda/Ada_0001.jpg,Ada/Ada_0002.jpg,1\n")
    pairs = pairs_module.read_listed_pairs(
        str(path), str(listed_pairs_images), rules, is_csv=True, allow_missing=False, boxes=boxes
    )
    places = {name: number for number, name in enumerate(pairs.images.paths)}
    assert Image.open(io.BytesIO(pairs.images.read(places["Ada/Ada_0001.jpg"]))).size == (16, 8)
    with pytest.raises(BadImage, match="no box"):
        pairs.images.read(places["Ada/Ada_0002.jpg"])
