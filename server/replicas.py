"""The server as replicas on Ray Serve: each has the model, and goes on with any other's sessions.

Between :mod:`demos.serve`, or the file of a RayService, and :mod:`server.app`, which runs in every
replica as it runs alone. Serve starts replicas, and others for those that die; its proxies hold the
port, and give a request or a web socket to a replica, where it stays.

What is unusual: Serve counts requests, all alike, and lets those beyond its count wait. So it is
told the sum of all places of a replica, which is never reached: each refuses by its own places, at
once. What replicas know of each other's sessions is in a folder that they share
(:mod:`server.journal`).
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from dragoman.captioner import Captioner
from dragoman.errors import DeviceError, PipelineError, UsageError
from dragoman.pipeline.ray_processes import connect
from dragoman.server import backpressure
from dragoman.server.access import Rules
from dragoman.server.app import application
from dragoman.server.limits import Limits
from dragoman.server.serving import KEY, Certificate, address_of, bind
from dragoman.spec import ModelSpec
from dragoman.stages.messages import SessionOptions

try:
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions
    from ray.serve.schema import LoggingConfig
except ImportError as error:
    raise UsageError(f"replicas need Ray Serve ({error}): pip install 'dragoman[serve]'") from error

NAME = "dragoman"
OTHERS = 100  # requests beside those that have places: health, models, pages
DRAIN_S = 10.0  # that a replica which is to go waits for what is under way
QUIET = LoggingConfig(log_level="WARNING", enable_access_log=False)


@dataclass(frozen=True)
class Service:
    """What every replica serves; ``state`` is a folder that all of them see at that path."""

    spec: ModelSpec = field(default_factory=ModelSpec)
    options: SessionOptions = field(default_factory=SessionOptions)
    rules: Rules = field(default_factory=Rules)
    limits: Limits = field(default_factory=Limits)
    aliases: tuple[str, ...] = ()
    state: Path | None = None


@serve.deployment(graceful_shutdown_timeout_s=DRAIN_S, graceful_shutdown_wait_loop_s=0.5)
@serve.ingress()
class Replica:
    """One process with a model of its own."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._captioner = Captioner(replace(service.spec, address=None))
        self._captioner.__enter__()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        of = self._service
        app = application(self._captioner, of.options, of.rules, of.limits, of.aliases, of.state)
        return backpressure.Telling(app)

    def __del__(self) -> None:
        self._captioner.__exit__(None, None, None)


def deployed(service: Service, replicas: int = 1, gpus: float = 0.0) -> serve.Application:
    """``replicas`` of ``service`` as an application of Serve, each with ``gpus`` of a GPU."""
    most = service.limits.places + OTHERS
    deployment: Any = Replica  # what the decorators made of it
    return deployment.options(
        num_replicas=replicas,
        max_ongoing_requests=most,
        max_queued_requests=most,
        ray_actor_options={"num_cpus": 1, "num_gpus": gpus},
    ).bind(service)


def build(args: Mapping[str, Any]) -> serve.Application:
    """The application that a file of Serve describes: `model`, `session`, `rules` and `limits` have
    the fields of ModelSpec, SessionOptions, Rules and Limits, `aliases` other names for the model,
    `state_dir` the folder that replicas share. The key is in the environment. Raises UsageError.
    """
    parts = {"model": ModelSpec, "session": SessionOptions, "rules": Rules, "limits": Limits}
    known = (*parts, "aliases", "state_dir")
    if unknown := [name for name in args if name not in known]:
        raise UsageError(f"args: unknown {', '.join(unknown)}: known are {', '.join(known)}")
    if not os.environ.get(KEY):
        raise UsageError(f"a cluster can be reached by others: put a key into {KEY}")
    if not args.get("state_dir"):
        raise UsageError("state_dir: name a folder that all replicas share")
    made: dict[str, Any] = {}
    for name, kind in parts.items():
        try:
            made[name] = kind(**args.get(name, {}))
        except TypeError as error:
            raise UsageError(f"args.{name}: {error}") from error
    service = Service(
        made["model"],
        made["session"],
        replace(made["rules"], key=os.environ[KEY]),
        made["limits"],
        tuple(args.get("aliases", ())),
        Path(args["state_dir"]),
    )
    return deployed(service, gpus=1.0 if service.spec.device == "cuda" else 0.0)


@contextmanager
def serving_replicas(
    service: Service, replicas: int, host: str, port: int, certificate: Certificate | None = None
) -> Iterator[str]:
    """Serves while the context lasts, on Ray here or at the spec's address; gives the address.

    Raises PipelineError, DeviceError, UsageError.
    """
    backpressure.use()
    processes = connect(service.spec.address, replicas, renewed=False)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        if serve.status().proxies:
            raise UsageError(
                "Ray Serve runs on this cluster already, at a port of its own: add an application "
                "to its file (docs/serve.md), or end it with `serve shutdown`"
            )
        gpus = _share(replicas) if service.spec.device == "cuda" else 0.0
        if port == 0:
            with bind(host, 0) as free:
                port = free.getsockname()[1]
        with _deployment(service, replicas, gpus, _http(host, port, certificate), processes.joined):
            yield address_of(host, port, certificate is not None)
    finally:
        processes.close()


@contextmanager
def _deployment(
    service: Service, replicas: int, gpus: float, http: HTTPOptions, ours: bool
) -> Iterator[None]:
    try:
        serve.start(http_options=http, logging_config=QUIET)
        serve.run(deployed(service, replicas, gpus), name=NAME, logging_config=QUIET)
        yield
    except RuntimeError as error:
        raise PipelineError(f"the replicas did not start: {_why() or error}") from error
    finally:
        serve.delete(NAME)  # drains
        if not ours:
            serve.shutdown()


def _why() -> str:
    """What Serve knows of a deployment that failed: the last line of its traceback."""
    found = serve.status().applications.get(NAME)
    told = [each.message for each in found.deployments.values()] if found is not None else []
    return next((text.strip().splitlines()[-1] for text in told if text.strip()), "")


def _http(host: str, port: int, certificate: Certificate | None) -> HTTPOptions:
    if certificate is None:
        return HTTPOptions(host=host, port=port)
    files = str(certificate.key), str(certificate.certificate)
    return HTTPOptions(host=host, port=port, ssl_keyfile=files[0], ssl_certfile=files[1])


def _share(replicas: int) -> float:
    """Of a GPU, for each; raises DeviceError where there is none."""
    there = ray.cluster_resources().get("GPU", 0)
    if not there:
        raise DeviceError(
            "--device cuda: no node of this Ray has a GPU: see what `ray status` shows, or leave "
            "the option out to run on CPUs"
        )
    return min(1.0, int(100 * there / replicas) / 100)
