"""What this machine lacks for workers under Docker, and what exactly to do about it."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from luoshu.sandbox.isolation.containers import EngineError
from luoshu.sandbox.isolation.port import Finding, IsolationConfig

if TYPE_CHECKING:
    from luoshu.sandbox.isolation.docker_engine import DockerEngine, Image

_SOCKET = "unix:///var/run/docker.sock"
_UNIX = "unix://"
_GVISOR = (
    '{"runtimes": {"runsc": {"path": "/usr/bin/runsc", "runtimeArgs": ["--host-uds=open", '
    '"--network=none"]}}}'
)


class MissingError(Exception):
    """Something that is missing.

    Attributes:
        finding: What, and the remedy.
    """

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.finding = Finding(code, message, remedy)


def socket_path() -> Path:
    """The engine's socket on this machine: of DOCKER_HOST, or Docker's usual one.

    Raises:
        MissingError: DOCKER_HOST names another machine, to which no open file can be handed.
    """
    address = os.environ.get("DOCKER_HOST") or _SOCKET
    if not address.startswith(_UNIX):
        raise MissingError(
            "DOCKER_REMOTE",
            "DOCKER_HOST names an engine that isn't reached by a socket of this machine; workers "
            "are handed open files, so they run where the node does.",
            "Unset DOCKER_HOST, or set it to unix:///path/to/docker.sock.",
        )
    return Path(address.removeprefix(_UNIX))


def connect(path: Path, config: IsolationConfig, code: str) -> tuple[DockerEngine, Image]:
    """Connects to the engine and finds the image.

    Args:
        path: The engine's socket.
        config: Which image and runtime.
        code: Digest of this node's own code for workers.

    Raises:
        MissingError: Anything that workers need isn't there.
    """
    try:
        from luoshu.sandbox.isolation.docker_engine import DockerEngine  # noqa: PLC0415
    except ImportError:
        raise MissingError(
            "DOCKER_SDK",
            "The Docker SDK for Python is not installed.",
            "pip install 'luoshu[docker]'",
        ) from None
    _reach(path)
    try:
        engine = DockerEngine(path, config.runtime)
        try:
            _require_runtime(engine, config.runtime)
            return engine, _image(engine, config.image, code)
        except BaseException:
            engine.close()
            raise
    except EngineError as error:
        raise MissingError(
            "DOCKER_NOT_RUNNING",
            f"The Docker engine at {path} doesn't work: {error}.",
            "See what it says: `journalctl -u docker`; restart it: `systemctl restart docker`.",
        ) from None


def _reach(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            raise MissingError(
                "DOCKER_ABSENT",
                f"There is no Docker engine: {path} doesn't exist.",
                "Install and start one: `apt-get install docker.io`, `systemctl enable --now "
                "docker`; or set DOCKER_HOST to the socket of yours.",
            ) from None
        except PermissionError:
            raise MissingError(
                "DOCKER_PERMISSION",
                f"This user may not use the Docker engine at {path}.",
                "As root: `usermod -aG docker USER` for the node's user, then log in again. Who "
                "may use Docker's engine can become root on this machine.",
            ) from None
        except OSError as error:
            raise MissingError(
                "DOCKER_NOT_RUNNING",
                f"No Docker engine listens at {path}: {error.strerror or error}.",
                "Start it: `systemctl enable --now docker`.",
            ) from None


def _require_runtime(engine: DockerEngine, runtime: str | None) -> None:
    known = engine.runtimes()
    if runtime is not None and runtime not in known:
        raise MissingError(
            "DOCKER_RUNTIME",
            f"The Docker engine has no runtime {runtime}; it has {', '.join(known)}.",
            f"For gVisor: `apt-get install runsc`, write `{_GVISOR}` to /etc/docker/daemon.json "
            "(keep what is in it) and `systemctl restart docker`; or choose another "
            "sandbox.runtime.",
        )


def _image(engine: DockerEngine, name: str, code: str) -> Image:
    image = engine.find_image(name)
    if image is None:
        raise MissingError(
            "DOCKER_IMAGE",
            f"The Docker engine has no image {name}.",
            "Build it from a checkout of this version: `make sandbox-image`, or, where no image "
            "registry can be reached, `make sandbox-image BASE=debootstrap`.",
        )
    if image.code != code:
        raise MissingError(
            "DOCKER_IMAGE_STALE",
            f"The image {name} was built with other code for workers than this node has.",
            "Build it again from a checkout of this version: `make sandbox-image`.",
        )
    return image


def blocked(said: str, runtime: str | None) -> Finding:
    """What a trial that failed means.

    Args:
        said: By the container or the engine.
        runtime: The configured one.
    """
    remedy = (
        "Run the node and the engine on the same machine, the engine as root and without "
        "userns-remap; `docker run --rm --network none hello-world` tells whether it can start "
        "anything."
    )
    if runtime is not None:
        remedy = (
            f"If {runtime} is gVisor's, it must let containers connect to a socket that is mounted "
            f"into them: runtimeArgs as in `{_GVISOR}` in /etc/docker/daemon.json, then `systemctl "
            "restart docker`. Its kernel opens files as nobody, so the node has to run as root. "
            f"{remedy}"
        )
    return Finding("DOCKER_BLOCKED", f"A worker does not start under Docker: {said}.", remedy)
