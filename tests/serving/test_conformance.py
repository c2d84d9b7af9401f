"""Every way into fv reads an image file to the same pixels, or refuses it."""

import pathlib
import warnings

import numpy as np
import pytest
from PIL import Image

from fv.conversion import image_files, pair_lists, storage
from fv.evaluation import pairs as pairs_module
from tests import conformance

GUIDE = pathlib.Path(__file__).parents[2] / "docs" / "serve.md"
UNREADABLE_BY_GRAPH = {
    "JPEG, CMYK without Adobe's segment",
    "BMP, other",
    "WebP",
    "TIFF",
    "PPM, PGM",
}
CLOSE = 0.05  # distance of embeddings whose images differ by a level


@pytest.fixture(scope="module")
def corpus() -> list[conformance.File]:
    return conformance.files()


@pytest.fixture(scope="module")
def compared(corpus, tmp_path_factory):
    points = conformance.EntryPoints(tmp_path_factory.mktemp("corpus"))
    return conformance.compare(corpus, points)


def test_every_entry_point_reads_a_file_to_the_same_pixels(compared):
    assert compared[1] == []


def test_only_the_graph_refuses_a_format_and_the_guide_says_so(compared):
    refused = {
        (group, entry)
        for group, by_entry in compared[0].items()
        for entry in by_entry
        if not by_entry[entry]
    }
    assert refused == {(group, conformance.GRAPH) for group in UNREADABLE_BY_GRAPH}
    assert conformance.render(compared[0]) in GUIDE.read_text()


def test_pixels_that_are_not_stored_agree_within_one_level(corpus):
    for file in corpus:
        found = image_files.decode(file.data, conformance.PIXELS).astype(int)
        assert np.abs(found - file.wanted).max() <= conformance.TOLERANCE, file


def test_a_list_over_a_folder_is_read_as_the_converter_reads_it(corpus, tmp_path):
    for number, file in enumerate(corpus):
        (tmp_path / f"p{number}").mkdir()
        (tmp_path / f"p{number}" / f"a{file.suffix}").write_bytes(file.data)
    paths = [f"p{number}/a{file.suffix}" for number, file in enumerate(corpus)]
    rows = [f"{a},{b},0" for a, b in zip(paths, paths[1:] + paths[:1], strict=True)]
    (tmp_path / "pairs.csv").write_text("\n".join([",".join(pair_lists.COLUMNS), *rows]))
    pairs = pairs_module.read_listed_pairs(
        str(tmp_path / "pairs.csv"),
        str(tmp_path),
        pairs_module.storage_rules(storage.Crop(), None),
        is_csv=True,
        allow_missing=False,
    )
    by_path = dict(zip(paths, corpus, strict=True))
    for number, path in enumerate(pairs.images.paths):
        found = image_files.decode(pairs.images.read(number), conformance.PIXELS).astype(int)
        assert np.abs(found - by_path[path].wanted).max() <= conformance.EVALUATED_TOLERANCE, path


def test_a_verifier_embeds_a_file_as_its_pixels(corpus, verifier, tmp_path):
    paths = []
    for number, file in enumerate(corpus):
        paths.append(tmp_path / f"{number}{file.suffix}")
        paths[-1].write_bytes(file.data)
    wanted = verifier.embed([file.wanted for file in corpus])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened = [Image.open(path) for path in paths]
        given = (paths, [file.data for file in corpus], opened)
        distances = [np.linalg.norm(verifier.embed(one) - wanted, axis=1) for one in given]
    for file, distance in zip(corpus, np.max(distances, axis=0), strict=True):
        assert distance < CLOSE, file
