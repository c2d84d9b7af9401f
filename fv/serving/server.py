"""An HTTP service of an export: TensorFlow Serving's REST API, and endpoints for people.

    POST /v1/models/fv:predict      TensorFlow Serving's predict; /v1/models/fv/versions/N:predict
    GET  /v1/models/fv              status; /v1/models/fv/metadata
    POST /verify, /embed            images as multipart files; finds faces for an aligned model
    GET  /model                     threshold, limits and requests of the model
    GET  /healthz, /readyz, /metrics
    GET  /                          a web page

Nothing that a client sends is stored or logged.
"""

import asyncio
import contextlib
import pathlib
import re
from collections.abc import AsyncIterator, Coroutine
from concurrent import futures
from typing import Any, TypeVar

import numpy as np
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from fv.alignment import Face
from fv.errors import TemporaryError, UserError
from fv.serving import contract, image_inputs, limits, rest
from fv.serving.contract import InputError, Inputs, Outputs
from fv.serving.image_inputs import FaceFinder
from fv.serving.limits import Guard, Limits, Monitor
from fv.serving.served_model import Loaded, ServedModel

PAGE = pathlib.Path(__file__).parent / "page"
_PAGE_FILES = {"": "index.html", "style.css": "style.css", "page.js": "page.js"}
_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/([0-9]{1,18}))?(:predict|/metadata)?")
_PARSED_HERE = 64 << 10  # bytes of a body; a larger one is parsed in a thread
_LARGE_PIXELS = 4_000_000  # images beyond that decode in a lane of their own
_FINDERS, _LARGE_FINDERS = 2, 1  # threads that find faces
_PHOTOGRAPHS = "Photographs: the largest face near the centre of each is found and aligned."
T = TypeVar("T")
_POLL_SECONDS = 2.0  # between two looks for a newer version
_SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


def make_app(model: ServedModel, monitor: Monitor, bounds: Limits, max_images: int) -> Starlette:
    """Returns the service as an ASGI application.

    Args:
      model: what answers.
      monitor: gets the counts.
      bounds: what a client may take.
      max_images: images or embeddings in one request.
    """
    service = _Service(model, monitor, bounds, max_images)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        watching = asyncio.create_task(model.watch(_POLL_SECONDS))
        yield
        watching.cancel()
        service.close()
        model.close()

    def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return limits.error_response(error.status_code, error.detail)

    def refuse_input(request: Request, error: Exception) -> Response:
        monitor.count_refusal(str(error))
        return limits.error_response(400, str(error))

    def report_loss(request: Request, error: Exception) -> Response:
        return limits.error_response(503, str(error))

    return Starlette(
        routes=[
            Route("/v1/models/{rest:path}", service.model_api, methods=["GET", "POST"]),
            Route("/verify", service.verify, methods=["POST"]),
            Route("/embed", service.embed, methods=["POST"]),
            Route("/model", service.describe),
            Route("/healthz", service.healthz),
            Route("/readyz", service.readyz),
            Route("/metrics", service.metrics),
            Route("/", service.page),
            Route("/page/{name}", service.page),
            Route("/favicon.ico", lambda request: Response(status_code=204)),  # browsers ask
        ],
        middleware=[Middleware(Guard, bounds, monitor)],
        exception_handlers={
            HTTPException: refuse,
            UserError: refuse_input,
            TemporaryError: report_loss,
        },
        lifespan=lifespan,
    )


class _Service:
    """The endpoints."""

    def __init__(self, model: ServedModel, monitor: Monitor, bounds: Limits, max_images: int):
        self._model, self._monitor = model, monitor
        self._bounds, self._max_images = bounds, max_images
        self._finders = futures.ThreadPoolExecutor(_FINDERS, "fv-faces")
        self._large_finders = futures.ThreadPoolExecutor(_LARGE_FINDERS, "fv-large-faces")

    async def model_api(self, request: Request) -> Response:
        """TensorFlow Serving's endpoints."""
        path, loaded = request.url.path, self._model.current
        found = _PATH.fullmatch(path)
        if not found or (found[3] == ":predict") != (request.method == "POST"):
            raise InputError(f"Malformed request: {request.method} {path[:100]}")
        name, version, action = found.groups()
        if name != contract.MODEL_NAME or version not in (None, loaded.version):
            raise HTTPException(404, rest.say_missing(name, version, status=action is None))
        if action is None:
            return JSONResponse(rest.format_status(loaded.version))
        if action == "/metadata":
            return JSONResponse(rest.format_metadata(loaded.version, loaded.signatures))
        body = await request.body()
        parsed = _in_thread(len(body), rest.parse_predict, body, loaded.signatures)
        signature, inputs, by_rows = await parsed
        outputs = await self._run(request, loaded, signature, inputs)
        size = sum(values.size for values in outputs.values())
        return await _in_thread(size, _to_json, outputs, by_rows)

    async def verify(self, request: Request) -> Response:
        """Compares the files `a` and `b`."""
        loaded = self._model.current
        parts = await self._read_files(request, ("a", "b"), 2)
        images = dict(parts)
        if len(parts) != len(images) or len(images) != 2:
            raise InputError("send two files: curl -F a=@A.jpg -F b=@B.jpg URL/verify")
        names = {contract.IMAGE_A: ["a"], contract.IMAGE_B: ["b"]}
        called = self._call_on_files(request, loaded, rest.DEFAULT_SIGNATURE, names, images)
        outputs, faces = await called
        answer = {name: values[0].item() for name, values in outputs.items()}
        answer |= {f"face_{name}": face.to_json() for name, face in faces.items()}
        threshold = {"threshold": loaded.engine.threshold, "model_version": loaded.version}
        return JSONResponse(answer | threshold, headers={"cache-control": "no-store"})

    async def embed(self, request: Request) -> Response:
        """Embeds the files `image`."""
        loaded = self._model.current
        parts = await self._read_files(request, ("image",), self._max_images)
        if not parts:
            raise InputError("send files: curl -F image=@A.jpg -F image=@B.jpg URL/embed")
        images = {f"image[{place}]": data for place, (_, data) in enumerate(parts)}
        names = {contract.IMAGE: list(images)}
        outputs, faces = await self._call_on_files(request, loaded, "embed", names, images)
        embeddings = outputs[contract.EMBEDDING].tolist()
        answer = {"embeddings": embeddings, "model_version": loaded.version}
        if faces:
            answer["faces"] = [face.to_json() for face in faces.values()]
        return JSONResponse(answer, headers={"cache-control": "no-store"})

    async def describe(self, request: Request) -> Response:
        """What a client and the page need to know of the model."""
        loaded = self._model.current
        card = loaded.engine.card
        known = "model" in card
        untrue = [contract.NO_DETECTOR] if loaded.finder else []
        answer = {
            "version": loaded.version,
            "threshold": loaded.engine.threshold,
            "operating_point": card.get("operating_point"),
            "intended_use": card.get("intended_use"),
            "limits": [text for text in card.get("limits", []) if text not in untrue],
            "images": _PHOTOGRAPHS
            if loaded.finder
            else known and contract.describe_input(card["model"], card["preprocessing"]),
            "finds_faces": loaded.finder is not None,
            "embedding_size": loaded.engine.embedding_size,
            "max_megapixels": loaded.max_pixels / 1e6,
            "max_body_bytes": self._bounds.body_bytes,
            "max_images": self._max_images,
        }
        return JSONResponse(answer)

    async def healthz(self, request: Request) -> Response:
        """The process answers."""
        return PlainTextResponse("ok\n")

    async def readyz(self, request: Request) -> Response:
        """The process takes requests: a model is loaded."""
        return PlainTextResponse("ready\n")

    async def metrics(self, request: Request) -> Response:
        """Prometheus metrics."""
        return Response(self._monitor.text(), media_type="text/plain; version=0.0.4")

    async def page(self, request: Request) -> Response:
        """A file of the web page."""
        name = _PAGE_FILES.get(request.path_params.get("name", ""))
        if name is None:
            raise HTTPException(404, "Not Found")
        path = PAGE / name
        media_type = _MEDIA_TYPES[path.suffix]
        return Response(path.read_bytes(), media_type=media_type, headers=_SECURITY_HEADERS)

    async def _read_files(
        self, request: Request, names: tuple[str, ...], most: int
    ) -> list[tuple[str, bytes]]:
        """Reads the files of a multipart body, in order, into memory only."""
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise HTTPException(415, "the body has to be multipart/form-data")
        parser = MultiPartParser(request.headers, request.stream(), max_files=most, max_fields=0)
        parser.spool_max_size = self._bounds.body_bytes + 1  # a larger file would go to the disk
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise InputError(f"the multipart body cannot be read: {error.message}") from error
        images = []
        for name, value in form.multi_items():
            if name not in names or not isinstance(value, UploadFile):
                raise InputError(f"a part is none of the files {', '.join(names)}")
            images.append((name, await value.read()))
        return images

    async def _call_on_files(
        self,
        request: Request,
        loaded: Loaded,
        signature: str,
        names: dict[str, list[str]],
        images: dict[str, bytes],
    ) -> tuple[Outputs, dict[str, Face]]:
        """Answers a signature of crops for files; also returns the faces found in them, by name.

        `names` has the client's names of the images of each argument, `images` their bytes.
        """
        encoded = {name: await _encode(name, data, loaded) for name, data in images.items()}
        faces: dict[str, Face] = {}
        if loaded.finder:
            finding = self._find_faces(loaded.finder, encoded)
            faces, signature = await _unless_gone(request, finding), contract.ALIGNED[signature]
        inputs: dict[str, np.ndarray | list[bytes]] = {}
        for argument, given in names.items():
            inputs[argument] = [encoded[name] for name in given]
            if faces:
                points = np.array([faces[name].points for name in given], np.float32)
                inputs[contract.points_of(argument)] = points
        return await self._run(request, loaded, signature, inputs, names), faces

    async def _find_faces(self, finder: FaceFinder, encoded: dict[str, bytes]) -> dict[str, Face]:
        """Finds the face in each image, in a thread: one image of a request at a time."""
        loop, faces = asyncio.get_running_loop(), {}
        for name, data in encoded.items():
            if not data:
                raise InputError(f"{name} is empty")
            pool = self._large_finders if _is_large(data) else self._finders
            (faces[name],) = await loop.run_in_executor(pool, finder.find, [name], [data], None)
        return faces

    async def _run(
        self,
        request: Request,
        loaded: Loaded,
        signature: str,
        inputs: Inputs,
        names: dict[str, list[str]] | None = None,
    ) -> Outputs:
        """Checks the size of a request and waits for its answer, or for its client to go away."""
        count = contract.count_images(inputs)
        if count > self._max_images:
            given = f"{count:,} images or embeddings are in the request"
            raise HTTPException(413, f"{given}, at most {self._max_images:,} are taken")
        large = any(_is_large(one) for value in inputs.values() for one in value)
        with contract.use_names(names or {}):
            return await _unless_gone(request, loaded.batcher.run(signature, inputs, large))

    def close(self) -> None:
        """Ends the threads that find faces."""
        self._finders.shutdown(wait=False)
        self._large_finders.shutdown(wait=False)


async def _encode(name: str, data: bytes, loaded: Loaded) -> bytes:
    """Turns formats that the graph does not decode into those that it does."""
    # The others pass through unchanged.
    size = 0 if data.startswith((contract.JPEG, contract.PNG)) else _PARSED_HERE + 1
    try:
        return await _in_thread(size, image_inputs.encode, data, loaded.max_pixels)
    except UserError as error:
        raise InputError(str(error).replace(image_inputs.name_image(data), name)) from error


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Waits for an answer, or for its client to go away."""
    answer = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise HTTPException(499, "the client has gone")
        return answer.result()
    finally:
        answer.cancel()
        gone.cancel()


async def _in_thread(size: int, function, *arguments):
    """Calls a function, in a thread if its work of `size` bytes would hold up other requests."""
    if size <= _PARSED_HERE:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)


def _to_json(outputs: Outputs, by_rows: bool) -> Response:
    answer = rest.format_answer(outputs, by_rows)
    return JSONResponse(answer, headers={"cache-control": "no-store"})


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _is_large(image: bytes | np.ndarray) -> bool:
    return image_inputs.count_pixels(image) > _LARGE_PIXELS
