"""The routes: the page, and the API behind it, which is all that the page uses.

    app = create_app(Models([Path("runs/a")], device="auto"))

A picture is first made tokens by each network that is to see it, and all else is asked of tokens:

    POST /api/models/a/tokens         the picture's file          -> Encoded
    POST /api/models/a/completions    CompletionAsked             -> DrawingEvents, a line each
    POST /api/models/a/surprise       TokensAsked                 -> SurpriseMap
    POST /api/models/a/distribution   PixelAsked                  -> PixelDistribution
    GET  /api/models/a/probes                                     -> Beside

What cannot be answered is a `Problem` of one line: 404 no such model; 408 a body that does not
arrive; 413 too many bytes or pixels; 422 what cannot be; 429 no place left; 503 a model that cannot
be loaded. Beyond one request, all there is to know is in memory as long as the server runs: models,
and nothing of anybody's pictures.
"""

import asyncio
import contextlib
import reprlib
import sys
import time
import traceback
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from igpt.errors import IgptError, printable
from igpt.model.pretrained import Pretrained
from igpt.pixels.decoding import DecodingBudget
from igpt.pixels.opening import SkippedImage
from igpt.report.verdicts import Beside
from igpt.serve import drawing
from igpt.serve.limits import MAX_JSON, Busy, Limits, Places, Ticket
from igpt.serve.messages import (
    CompletionAsked,
    Done,
    DrawingEvent,
    Encoded,
    Failed,
    PixelAsked,
    PixelDistribution,
    Problem,
    Served,
    ServedModel,
    SurpriseMap,
    TokensAsked,
    Waiting,
)
from igpt.serve.models import Model, Models, Unavailable, Unknown
from igpt.serve.pictures import tokens_of
from igpt.serve.security import AnswerLimit, BodyLimit, Guard

PAGE = Path(__file__).with_name("page")
"""The page's files."""

_SHORT = {"at_once": 4, "waiting": 128}  # requests that take one look at a picture
_UPLOADS = {"at_once": 8, "waiting": 64}  # pictures that arrive or have: each is held in memory
_STATUS: dict[type[Exception], int] = {Unknown: 404, Busy: 429, Unavailable: 503}
_PROBLEMS = {
    400: "The body is no JSON.",
    404: "There is no model of this name.",
    408: "The body did not arrive in time.",
    413: "Too many bytes, or too many pixels.",
    422: "What was sent cannot be.",
    429: "All places are taken; try again later.",
    503: "The model cannot be loaded.",
}


@dataclass(frozen=True, kw_only=True)
class Server:
    """What requests share."""

    models: Models
    limits: Limits
    drawing: Places
    short: Places = field(default_factory=partial(Places, **_SHORT))
    uploads: Places = field(default_factory=partial(Places, **_UPLOADS))
    budget: DecodingBudget = field(default_factory=DecodingBudget)


def create_app(
    models: Models,
    limits: Limits | None = None,
    *,
    names: Iterable[str] = (),
    patience: float = 60.0,
) -> FastAPI:
    """Return the application, for any ASGI server.

    Args:
        models: What is served.
        limits: What is refused.
        names: By which the server may be called, beside `localhost` and numeric addresses.
        patience: Seconds in which a client has to send a body, and to take each piece of an answer.
    """
    limits = limits or Limits()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        models.close()

    app = FastAPI(
        title="igpt serve",
        version=version("igpt"),
        description=__doc__,
        docs_url=None,  # both would load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.server = Server(
        models=models,
        limits=limits,
        drawing=Places(at_once=limits.at_once, waiting=limits.queue),
    )
    app.add_middleware(BodyLimit, limit=limits.max_upload, of_json=MAX_JSON, seconds=patience)
    app.add_middleware(AnswerLimit, seconds=patience)
    app.add_middleware(Guard, names=names)
    app.add_exception_handler(IgptError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _fault)
    app.include_router(_routes)
    app.mount("/page", StaticFiles(directory=PAGE))
    return app


_PICTURE = {
    "required": True,
    "description": "A picture's file, of any format that igpt reads.",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}


def _problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Return how OpenAPI describes these answers."""
    return {code: {"model": Problem, "description": _PROBLEMS[code]} for code in codes}


_JSON = (400, 404, 408, 413, 422, 429, 503)  # what may become of a request in JSON
_routes = APIRouter()


def _server(request: Request) -> Server:
    return request.app.state.server


ServerOf = Annotated[Server, Depends(_server)]


async def _model(name: str, server: ServerOf) -> Model:
    return server.models[name]


ModelOf = Annotated[Model, Depends(_model)]


async def _pretrained(model: ModelOf) -> Pretrained:
    return await model.loaded()


PretrainedOf = Annotated[Pretrained, Depends(_pretrained)]


async def _at_work(server: ServerOf) -> AsyncIterator[None]:
    async with server.short.at_work():
        yield


async def _drawing_ticket(server: ServerOf) -> AsyncIterator[Ticket]:
    with server.drawing.ticket() as ticket:
        yield ticket


@_routes.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """Return the page."""
    return FileResponse(PAGE / "index.html")


@_routes.get("/api/models")
async def models(server: ServerOf) -> Served:
    """Return which models there are, and what is refused."""
    return Served(version=version("igpt"), limits=server.limits, models=server.models.states)


@_routes.get("/api/models/{name}", responses=_problems(404, 422, 503))
async def model(model: ModelOf, pretrained: PretrainedOf) -> ServedModel:
    """Return what a model is, once it is loaded, which this begins."""
    network, tokenizer = pretrained.model.config, pretrained.tokenizer
    return ServedModel(
        name=model.name,
        network=network,
        learned_by=pretrained.learned_by,
        parameters=network.parameters,
        draws=drawing.draws(pretrained),
        palette=tuple((red, green, blue) for red, green, blue in pretrained.palette.rgb.tolist()),
        reading=tuple(drawing.reading(tokenizer)),
        half=drawing.half(tokenizer),
    )


@_routes.get("/api/models/{name}/probes", responses=_problems(404, 422, 503))
async def probes(model: ModelOf) -> Beside:
    """Return what linear probes read from each layer of a run, as `igpt probe` kept it.

    Both are null where nothing is kept.
    """
    return await model.probes()


@_routes.post(
    "/api/models/{name}/tokens",
    responses=_problems(404, 408, 413, 422, 429, 503),
    openapi_extra={"requestBody": _PICTURE},
)
async def encode(request: Request, pretrained: PretrainedOf, server: ServerOf) -> Encoded:
    """Return the middle of a picture as a network sees it. The body is the picture's file."""
    async with server.uploads.at_work():
        content = await request.body()
        async with server.short.at_work():  # only now: who sends slowly keeps nobody from work
            tokens = await asyncio.to_thread(
                tokens_of, content, pretrained.tokenizer,
                max_pixels=server.limits.max_pixels, budget=server.budget,
            )  # fmt: skip
    return Encoded(tokens=tokens)


@_routes.post("/api/models/{name}/surprise", responses=_problems(*_JSON))
async def surprise(
    asked: TokensAsked,
    pretrained: PretrainedOf,
    server: ServerOf,
    _: Annotated[None, Depends(_at_work)],
) -> SurpriseMap:
    """Return how much each pixel of a picture surprises an autoregressive network."""
    return await server.models.compute(drawing.surprise, pretrained, asked.tokens)


@_routes.post("/api/models/{name}/distribution", responses=_problems(*_JSON))
async def distribution(
    asked: PixelAsked,
    pretrained: PretrainedOf,
    server: ServerOf,
    _: Annotated[None, Depends(_at_work)],
) -> PixelDistribution:
    """Return which colors a network expects at a pixel of a picture."""
    return await server.models.compute(
        drawing.distribution, pretrained, asked.tokens, asked.position
    )


async def _drawable(
    asked: CompletionAsked, pretrained: PretrainedOf, server: ServerOf
) -> drawing.Drawing:
    most = server.limits.max_samples
    if asked.samples > most:
        raise HTTPException(422, f"samples must lie between 1 and {most} here, got {asked.samples}")
    return drawing.Drawing.of(pretrained, asked)


@_routes.post("/api/models/{name}/completions", responses=_problems(*_JSON))
async def complete(
    asked: Annotated[drawing.Drawing, Depends(_drawable)],
    server: ServerOf,
    ticket: Annotated[Ticket, Depends(_drawing_ticket)],
) -> AsyncIterable[DrawingEvent]:
    """Draw images, and send their pixels as they are drawn, an event a line.

    Close the connection to stop it.
    """
    while not ticket.turn.is_set():
        yield Waiting(ahead=server.drawing.ahead(ticket))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ticket.turn.wait(), 1)
    start = time.monotonic()
    pieces = asked.pieces()
    try:
        while (drawn := await server.models.compute(next, pieces, None)) is not None:
            for one in drawn:
                yield one
    except Exception:  # the answer has begun, and its status cannot be taken back
        traceback.print_exc()
        yield Failed(detail=_FAULT)
    else:
        yield Done(seconds=time.monotonic() - start)


_FAULT = "a fault of igpt's own, or of the machine; where igpt serve runs, it says which"


async def _refused(_: Request, error: Exception) -> Response:
    status = _STATUS.get(type(error), 422)
    if isinstance(error, SkippedImage) and error.reason == "too large":
        status = 413
    return _problem(status, str(error))


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]).removeprefix("body.")
    text = f"{where}: {first['msg'].lower()}"
    came = first.get("input", {})
    if isinstance(came, bytes):  # of a body that was not read as JSON, whatever it is
        text = "the body is not said to be JSON; send it with Content-Type: application/json"
    elif not isinstance(came, dict | list):
        text += f", got {reprlib.repr(came)}"
    return _problem(422, printable(text))


async def _http_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _problem(error.status_code, str(error.detail), error.headers)


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=400)  # read by nobody


async def _fault(_: Request, error: Exception) -> Response:
    print(f"igpt: {type(error).__name__}: {printable(str(error))}", file=sys.stderr)
    return _problem(500, _FAULT)


def _problem(status: int, detail: str, headers: Any = None) -> Response:
    retry = {"Retry-After": "2"} if status == 429 else {}
    return JSONResponse({"detail": detail}, status, {**retry, **(headers or {})})
