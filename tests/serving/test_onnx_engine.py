"""ONNX Runtime in place of the SavedModel, in this process and in worker processes."""

import concurrent.futures
import gc
import pathlib
import subprocess
import sys

import numpy as np
import psutil
import pytest
import tensorflow as tf

import fv
from fv import embedding_files, image_ops
from fv.embed import EmbedOptions, embed
from fv.errors import TemporaryError, UserError
from fv.preprocessing import Preprocessing
from fv.serving import engine, export, onnx_engine
from fv.serving.contract import InputError
from fv.serving.export import ExportOptions
from tests import samples, waiting
from tests.serving import making

FORMS = ("JPEG", "PNG", "BMP", "GIF")


def test_an_export_without_onnx_says_how_to_get_it(exported):
    pytest.importorskip("onnxruntime")
    with pytest.raises(UserError, match=r"no formats.encoder\.onnx: export with --formats"):
        engine.load_engine(str(exported), engine.ONNX)


def test_the_engine_needs_no_tensorflow():
    code = "import sys, fv.serving.onnx_engine; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("quality", [75, 95])
def test_images_are_stored_bit_for_bit_as_in_the_graph(quality):
    pixels = np.asarray(making.picture())
    stored = Preprocessing(store_size=min(pixels.shape[:2]), jpeg_quality=quality)
    wanted = image_ops.store(tf.constant(pixels), stored).numpy()
    np.testing.assert_array_equal(onnx_engine.compress(pixels, quality), wanted)
    assert (wanted != pixels).any()


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory) -> pathlib.Path:
    """A version folder with an ONNX file."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    output = tmp_path_factory.mktemp("onnx")
    export.export(
        ExportOptions(workdir=trained.workdir, output=str(output), formats="saved_model,onnx")
    )
    return output / "1"


@pytest.mark.slow
def test_the_engines_give_the_same_answers_and_refusals(folder):
    picture = making.picture()
    files = [making.encode(picture, form) for form in FORMS]
    plain, onnx = (fv.Verifier(str(folder), engine=name) for name in engine.ENGINES)
    np.testing.assert_allclose(onnx.embed(files), plain.embed(files), atol=1e-5)
    for theirs, ours in zip(
        plain.verify(files, files[::-1]), onnx.verify(files, files[::-1]), strict=True
    ):
        assert abs(theirs.similarity - ours.similarity) <= 1e-5
        assert abs(theirs.probability - ours.probability) <= 1e-4 and theirs.same == ours.same
    first, second = plain.embed(files[:2])
    assert abs(plain.compare(first, second).distance - onnx.compare(first, second).distance) <= 1e-5
    run = engine.load_engine(str(folder), engine.ONNX).run
    for data, _ in making.refused().values():
        if data[:2] != b"BM":  # Pillow takes compressed ones
            with pytest.raises(InputError, match=r"^image\[1\] (is|has|cannot be used)"):
                run("embed", {"image": [files[0], data]})
    pixels = np.asarray(picture)[np.newaxis]
    wanted = onnx.embed(files[1])
    np.testing.assert_allclose(
        run("embed_pixels", {"image": pixels})["embedding"][0], wanted, atol=1e-6
    )
    assert run("embed", {"image": []})["embedding"].shape[0] == 0


@pytest.mark.slow
def test_a_killed_worker_fails_its_own_call_and_is_replaced(folder):
    # A list, so that the test can drop it.
    held = [engine.load_engine(str(folder), engine.ONNX, processes=2)]
    files = [making.encode(making.picture(), form) for form in FORMS]
    wanted = held[0].run("embed", {"image": files})["embedding"]
    with pytest.raises(InputError, match=r"^image\[1\] is empty"):
        held[0].run("embed", {"image": [files[0], b""]})

    def workers() -> list[psutil.Process]:
        children = psutil.Process().children()
        return [one for one in children if "fv.serving.onnx_engine" in one.cmdline()]

    def ask(index: int) -> bool:
        try:
            return np.array_equal(held[0].run("embed", {"image": files})["embedding"], wanted)
        except TemporaryError:
            return False

    victim = workers()[0]
    victim.kill()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(12)))
    assert answers.count(False) == 1
    waiting.until(lambda: held[0]._idle.qsize() == 2)
    assert all(ask(index) for index in range(4))
    processes = workers()
    held.clear()
    gc.collect()  # what tracebacks hold
    ended = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    waiting.until(lambda: all(not one.is_running() or one.status() in ended for one in processes))


@pytest.mark.slow
def test_fv_embed_prepares_images_for_an_exported_onnx_file_by_its_card(folder, trained, tmp_path):
    images = str(samples.write_images(tmp_path / "faces", 2, 2))
    onnx = str(folder / "formats" / "encoder.onnx")
    found = []
    for name, model in (("workdir", trained.workdir), ("onnx", onnx)):
        output = str(tmp_path / f"{name}.npz")
        embed(EmbedOptions(output, images=images, **{name: model}))
        found.append(embedding_files.read(output).vectors)
    np.testing.assert_allclose(*found, atol=1e-5)
