"""The web page in a real browser; skipped where chromium is not installed."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from fv import detection
from fv.alignment import Face
from fv.serving import served_model
from fv.serving.limits import Limits, Monitor
from tests import samples
from tests.serving.test_server import Running, load  # noqa: F401

sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]
FLAGS = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
GOOD, OTHER = samples.image_bytes(12, 0), samples.image_bytes(13, 0)
LONGEST_MS = 30_000
PHONE = {"width": 360, "height": 640}
TOKEN = "t" * 32


def start(exported, load, token=None) -> Running:  # noqa: F811
    monitor = Monitor()
    model = served_model.ServedModel(str(exported), load, monitor)
    return Running(model, monitor, Limits(64_000_000, 8, 60.0, token))


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def service(exported, load):  # noqa: F811
    running = start(exported, load)
    yield running
    running.stop()


@pytest.fixture
def page(browser, service):
    """The page; a test fails if it logs an error or asks another server."""
    page = browser.new_page()
    page.set_default_timeout(LONGEST_MS)
    problems = []
    page.on("console", lambda line: line.type == "error" and problems.append(line.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request",
        lambda sent: sent.url.startswith((service.url, "blob:")) or problems.append(sent.url),
    )
    page.goto(service.url)
    yield page
    page.close()
    assert [text for text in problems if "status of 400" not in text] == []


def choose(page, side: str, data: bytes, name: str = "face.jpg") -> None:
    file = {"name": name, "mimeType": "image/jpeg", "buffer": data}
    page.set_input_files(f"[data-side={side}] input", files=[file])


def compare(page) -> str:
    page.click("#compare")
    page.wait_for_selector("#compare:enabled")
    return page.inner_text("#answer")


def test_two_files_get_the_verdict_of_the_verifier(page, verifier):
    assert page.is_disabled("#compare")
    choose(page, "a", GOOD)
    choose(page, "b", OTHER)
    wanted = verifier.verify(GOOD, OTHER)
    text = compare(page)
    assert ("the same person" in text) == wanted.same
    assert f"Similarity {wanted.similarity:.4f}" in text
    assert f"threshold of {wanted.threshold:.4f}" in text
    assert f"{100 * wanted.probability:.1f} %" in text
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert page.locator("#limits li").count() >= 5


def test_a_broken_file_is_named_and_the_next_one_works(page):
    choose(page, "a", GOOD)
    choose(page, "b", GOOD[:400])
    assert "The second image is no whole JPEG" in compare(page)
    assert page.is_hidden("#verdict")
    choose(page, "b", GOOD)
    assert "Probably the same person" in compare(page)


DROP = """([side, bytes]) => {
    const files = new DataTransfer();
    files.items.add(new File([new Uint8Array(bytes)], "drop.jpg", {type: "image/jpeg"}));
    const event = {dataTransfer: files, bubbles: true, cancelable: true};
    document.querySelector(`[data-side=${side}]`).dispatchEvent(new DragEvent("drop", event));
}"""
PASTE = """(bytes) => {
    const files = new DataTransfer();
    files.items.add(new File([new Uint8Array(bytes)], "paste.jpg", {type: "image/jpeg"}));
    document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: files}));
}"""


def test_files_can_be_dropped_and_pasted(page):
    page.evaluate(DROP, ["b", list(OTHER)])
    page.evaluate(PASTE, list(GOOD))
    names = page.locator(".name").all_inner_texts()
    assert names[0].startswith("paste.jpg") and names[1].startswith("drop.jpg")
    assert "Similarity" in compare(page)


def test_the_camera_takes_a_photograph(page):
    choose(page, "b", GOOD)
    page.click("[data-side=a] .camera")
    page.wait_for_selector("[data-side=a] video:not([hidden])")
    page.click("[data-side=a] .camera")
    page.wait_for_selector("[data-side=a] img:not([hidden])")
    assert page.inner_text("[data-side=a] .name").startswith("camera.jpg")
    assert "Similarity" in compare(page)


def test_the_keyboard_is_enough(page, tmp_path):
    choose(page, "a", GOOD)
    choose(page, "b", GOOD)
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "document.activeElement.id || document.activeElement.ariaLabel"
                " || document.activeElement.tagName"
            )
        )
        if reached[-1] == "compare":
            break
    assert reached == [
        "First image: choose a file",
        "First image: use the camera",
        "Second image: choose a file",
        "Second image: use the camera",
        "compare",
    ]
    page.keyboard.press("Enter")
    page.wait_for_selector("#verdict:not([hidden])")


def test_a_screen_reader_finds_names_roles_and_the_answer(page):
    choose(page, "a", GOOD)
    choose(page, "b", OTHER)
    compare(page)
    for name in ("First image", "Second image"):
        assert page.get_by_role("group", name=name).count() == 1
        assert page.get_by_role("img", name=name).count() == 1
        assert page.get_by_role("button", name=f"{name}: use the camera").count() == 1
    assert page.get_by_role("heading", level=1).count() == 1
    assert page.get_by_role("meter").count() == 1
    assert page.get_attribute("#answer", "aria-live") == "polite"
    assert page.get_attribute("html", "lang") == "en"


def test_a_phone_needs_no_sideways_scrolling(page):
    page.set_viewport_size(PHONE)
    choose(page, "a", GOOD, "a very long name of a photograph " * 3 + ".jpg")
    choose(page, "b", OTHER)
    compare(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize(("side", "megabytes"), [(1050, 1), (4400, 20)])
def test_photographs_of_one_and_of_twenty_megabytes_are_compared(page, side, megabytes):
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(noise).save(encoded, "JPEG", quality=90)
    assert 0.8 * megabytes < len(encoded.getvalue()) / 1e6 < 1.3 * megabytes
    choose(page, "a", encoded.getvalue())
    choose(page, "b", encoded.getvalue())
    assert "Probably the same person" in compare(page)


FACE = Face(
    np.float64([[50, 40], [80, 42], [65, 60], [52, 75], [78, 76]]), (40.0, 20.0, 50.0, 70.0), 0.9
)


def test_found_faces_are_drawn_and_described(browser, aligned_version, load, monkeypatch):  # noqa: F811
    class Fake:
        def detect(self, images):
            return [[FACE] if image.std() > 1 else [] for image in images]

    monkeypatch.setattr(detection, "load", lambda *_: Fake())
    service = start(aligned_version, load)
    page = browser.new_page()
    page.goto(service.url)
    photograph = samples.image_bytes(3, 0, 160)
    black = io.BytesIO()
    Image.new("RGB", (160, 160)).save(black, "JPEG")
    choose(page, "a", photograph)
    choose(page, "b", black.getvalue())
    assert "The second image shows no face that mtcnn finds" in compare(page)
    assert page.locator("svg rect").count() == 0
    choose(page, "b", photograph)
    assert "First image: a face of 50 × 70 pixels. Second image: a face of" in compare(page)
    image, box = (page.locator(f"[data-side=b] {name}").bounding_box() for name in ("img", "rect"))
    scale = min(image["width"], image["height"]) / 160
    assert box["height"] == pytest.approx(70 * scale, abs=4)
    assert box["y"] - image["y"] == pytest.approx(20 * scale, abs=4)
    left = image["x"] + (image["width"] - 160 * scale) / 2
    assert box["x"] == pytest.approx(left + 40 * scale, abs=4)
    assert page.locator("[data-side=a] svg path").get_attribute("d").count("M") == 5
    choose(page, "a", photograph)
    assert page.locator("[data-side=a] svg rect").count() == 0
    page.close()
    service.stop()


def test_a_server_with_a_token_asks_for_it(browser, exported, load):  # noqa: F811
    service = start(exported, load, TOKEN)
    page = browser.new_page()
    page.goto(service.url)
    choose(page, "a", GOOD)
    choose(page, "b", GOOD)
    assert "needs a token" in compare(page)
    page.fill("#token", TOKEN)
    assert "Probably the same person" in compare(page)
    page.close()
    service.stop()
