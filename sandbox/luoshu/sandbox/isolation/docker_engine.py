"""Docker's engine on this machine, by the Docker SDK; the only module that imports it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker
import docker.errors
import docker.types
import requests

from luoshu.sandbox.isolation.container_profile import profile
from luoshu.sandbox.isolation.containers import EngineError, Order
from luoshu.sandbox.isolation.lending import NOBODY
from luoshu.sandbox.isolation.port import Limits, Mount
from luoshu.sandbox.worker.contained import DOOR

HOME_LABEL = "luoshu.home"
CODE_LABEL = "luoshu.code"
_SECONDS = 60
_CONNECTIONS = 64
_PROCESSES = 64  # threads are counted too
_TMP = "/tmp"  # noqa: S108 - inside


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is there.

    Attributes:
        id: Digest over its configuration, and with that over the digests of its layers.
        code: The label that it was built with: digest of the workers' code.
    """

    id: str
    code: str


class DockerEngine:
    """Implements `containers.Engine`."""

    def __init__(self, path: Path, runtime: str | None = None) -> None:
        """Connects.

        Args:
            path: The engine's socket.
            runtime: The runtime of its containers; the engine's default one if None.

        Raises:
            EngineError: It doesn't answer.
        """
        self._runtime = runtime
        self._profile = profile()
        with _told():
            self._client = docker.APIClient(
                base_url=f"unix://{path}", version="auto", timeout=_SECONDS, num_pools=_CONNECTIONS
            )

    def close(self) -> None:
        """Closes its connections."""
        self._client.close()

    def runtimes(self) -> list[str]:
        """Names of the runtimes that it knows."""
        with _told():
            return sorted(self._client.info()["Runtimes"])

    def find_image(self, name: str) -> Image | None:
        """An image, or None if it isn't there."""
        with _told():
            try:
                found = self._client.inspect_image(name)  # type: ignore[no-untyped-call]
            except docker.errors.ImageNotFound:
                return None
        labels = found["Config"].get("Labels") or {}
        return Image(str(found["Id"]), str(labels.get(CODE_LABEL, "")))

    def create(self, order: Order, door: Path) -> str:
        """See `containers.Engine`."""
        user = (os.geteuid(), os.getegid())
        if user[0] == 0 and not order.as_node:
            user = (NOBODY, NOBODY)
        with _told():
            made = self._client.create_container(
                order.image,
                entrypoint=[order.command[0]],
                command=list(order.command[1:]),
                user=f"{user[0]}:{user[1]}",
                hostname="worker",
                network_disabled=True,
                stop_signal="SIGKILL",
                labels={HOME_LABEL: order.home},
                host_config=self._host_config(order, door, user),
            )
        return str(made["Id"])

    def _host_config(self, order: Order, door: Path, user: tuple[int, int]) -> dict[str, object]:
        limits, cpus = order.limits, min(order.cpus, os.cpu_count() or 1)
        # What is written to memory for others to read counts as the worker's; see `scratch`.
        memory = (
            limits.memory_bytes + limits.tmp_bytes + min(limits.file_bytes, limits.export_bytes)
        )
        tmp = f"size={limits.tmp_bytes},mode=0700,uid={user[0]},gid={user[1]}"
        return self._client.create_host_config(
            runtime=self._runtime,
            network_mode="none",
            ipc_mode="none",
            cgroupns="private",
            read_only=True,
            tmpfs={_TMP: f"{tmp},nosuid,nodev,noexec"},
            mounts=[_mount(mount) for mount in (Mount(door, DOOR), *order.mounts)],
            cap_drop=["ALL"],
            security_opt=["no-new-privileges", f"seccomp={self._profile}"],
            mem_limit=memory,
            memswap_limit=memory,
            pids_limit=_PROCESSES,
            nano_cpus=cpus * 10**9,
            ulimits=_ulimits(limits),
            log_config=docker.types.LogConfig(type="none"),
            init=False,
        )

    def start(self, container: str) -> None:
        """See `containers.Engine`."""
        with _told():
            self._client.start(container)

    def is_running(self, container: str) -> bool:
        """See `containers.Engine`."""
        with _told():
            return bool(self._client.inspect_container(container)["State"]["Running"])

    def wait(self, container: str) -> int:
        """See `containers.Engine`."""
        with _told():
            return int(self._client.wait(container, timeout=None)["StatusCode"])

    def kill(self, container: str) -> None:
        """See `containers.Engine`."""
        with _told(absent_is_well=True):
            self._client.kill(container)

    def remove(self, container: str) -> None:
        """See `containers.Engine`."""
        with _told(absent_is_well=True):
            self._client.remove_container(container, force=True, v=True)

    def remove_all(self, home: str) -> None:
        """Removes every container that has a home's label."""
        with _told():
            found = self._client.containers(all=True, filters={"label": f"{HOME_LABEL}={home}"})
        for container in found:
            self.remove(container["Id"])


def _mount(mount: Mount) -> docker.types.Mount:
    return docker.types.Mount(
        mount.target, str(mount.source), type="bind", read_only=not mount.writable
    )


def _ulimits(limits: Limits) -> list[docker.types.Ulimit]:
    values = {
        "core": 0,
        "cpu": limits.cpu_seconds,
        "fsize": limits.file_bytes,
        "nofile": limits.open_files,
    }
    return [docker.types.Ulimit(name=name, soft=most, hard=most) for name, most in values.items()]


@contextmanager
def _told(*, absent_is_well: bool = False) -> Iterator[None]:
    """Turns the SDK's errors into ours."""
    try:
        yield
    except docker.errors.APIError as error:
        status = error.response.status_code if error.response is not None else 0
        if absent_is_well and status in {404, 409}:  # gone, not running, or being removed
            return
        raise EngineError(f"Docker: {error.explanation or status}") from None
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise EngineError(f"Docker doesn't answer: {type(error).__name__}") from None
