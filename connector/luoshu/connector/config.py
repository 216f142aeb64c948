"""A node's configuration: ``node.toml``, then the environment, then flags; the later wins.

Every setting has one dotted name, such as ``sandbox.memory_mib``: the key ``memory_mib`` of the
table ``[sandbox]`` in ``node.toml``, the environment variable ``LUOSHU_SANDBOX__MEMORY_MIB``, the
flag ``--set sandbox.memory_mib=2048``. A name that doesn't exist is refused wherever it comes
from, with the nearest one that does: a mistyped limit must not silently be no limit.

The operator's address is no setting: it comes from the space's trust anchor
(``credentials/space.json``).
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from luoshu.connector.errors import NodeError
from luoshu.contracts.errors import ContractsError
from luoshu.contracts.ids import parse_participant_id
from luoshu.sandbox.isolation.port import MIB, IsolationConfig, Limits

FILE_NAME: Final = "node.toml"
ENVIRONMENT_PREFIX: Final = "LUOSHU_"
_DELIMITER: Final = "__"
_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})")


def _check_address(value: str) -> str:
    match = _ADDRESS.fullmatch(value)
    if match is None or int(match[2]) > 65535:
        raise ValueError("write it as host:port, such as 127.0.0.1:7401 or [::1]:7401")
    return value


def _check_participant(value: str) -> str:
    try:
        parse_participant_id(value)
    except ContractsError as error:
        raise ValueError(error.message) from None
    return value


def _split(value: object) -> object:
    """Environment and flags write a list with commas."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _check_unique(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value or len(set(value)) != len(value):
        raise ValueError("name at least one, each once")
    return value


Address = Annotated[str, AfterValidator(_check_address)]
Role = Literal["operator", "holder", "analyst", "auditor"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NodeSection(_Section):
    """Who the node is."""

    participant: Annotated[str, AfterValidator(_check_participant)] = Field(
        description="Participant id, as in the membership credential.",
        examples=["urn:luoshu:alliance:hospital-a"],
    )
    roles: Annotated[tuple[Role, ...], BeforeValidator(_split), AfterValidator(_check_unique)] = (
        Field(
            description="What the node does: operator, holder, analyst, auditor; one or more. "
            "The membership credential must grant them.",
            examples=[["holder"]],
        )
    )


class PeerSection(_Section):
    """The port for other participants' nodes."""

    listen: Address | None = Field(
        default=None,
        description="host:port to listen on; port 0 takes a free one. Without it the node only "
        "dials out, as an analyst's does; a holder and the operator need it.",
        examples=["0.0.0.0:7400"],
    )
    advertise: Address | None = Field(
        default=None,
        description="host:port at which others reach this node, where it differs from "
        "peer.listen. It is part of the enrolment request.",
        examples=["connector.hospital-a.example:7400"],
    )


class UserSection(_Section):
    """The port for the node's own users."""

    listen: Address = Field(
        default="127.0.0.1:7401",
        description="host:port to listen on; port 0 takes a free one.",
    )


class LoggingSection(_Section):
    """The operational log; it holds no row values. The usage log is another thing."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severity that is written."
    )
    format: Literal["json", "console"] = Field(
        default="json", description="json: one object a line; console: for reading."
    )
    file: Path | None = Field(
        default=None,
        description="File to append to, relative to the node's directory; without it, standard "
        "error.",
        examples=["run/node.log"],
    )


class SandboxSection(_Section):
    """The isolation that queries run in, and what one query may use."""

    isolation: Literal["bwrap", "docker"] = Field(
        default="bwrap",
        description="Which isolation to use: bubblewrap, which comes along, or an engine of Docker "
        "on this machine.",
    )
    image: str = Field(
        default="luoshu-worker",
        min_length=1,
        description="For docker: the image that workers run from; `make sandbox-image` builds it.",
    )
    runtime: str | None = Field(
        default=None,
        min_length=1,
        description="For docker: the engine's runtime for workers; without it, its default one. "
        "`runsc` is gVisor's.",
        examples=["runsc"],
    )
    memory_mib: int = Field(
        default=3072,
        ge=512,
        le=1 << 20,
        description="Memory and address space of one worker, in MiB; of the latter the engine "
        "itself takes about 1 GiB.",
    )
    cpu_seconds: int = Field(
        default=120, ge=1, le=86_400, description="Processor time of one worker, in seconds."
    )
    wall_seconds: float = Field(
        default=120.0,
        gt=0,
        le=86_400,
        description="From the start of a computation until its workers are killed, in seconds.",
    )
    threads: int = Field(default=2, ge=1, le=256, description="Engine threads of one worker.")
    max_result_rows: int = Field(
        default=200_000, ge=1, le=10_000_000, description="Most rows of one result."
    )
    max_result_bytes: int = Field(
        default=64 << 20, ge=1024, le=1 << 30, description="Largest result, in bytes."
    )
    concurrency: int = Field(
        default=2, ge=1, le=256, description="Computations that may run at once; others wait."
    )
    workers_ready: int = Field(
        default=1,
        ge=0,
        le=256,
        description="Workers of each kind that are kept ready at least; under load it is as many "
        "as are in use, up to `concurrency`.",
    )

    def isolation_config(self) -> IsolationConfig:
        """What the sandbox is started with."""
        return IsolationConfig(
            adapter=self.isolation,
            image=self.image,
            runtime=self.runtime,
            limits=Limits(
                memory_bytes=self.memory_mib * MIB,
                cpu_seconds=self.cpu_seconds,
                frame_bytes=self.max_result_bytes,
            ),
            threads=self.threads,
            wall_seconds=self.wall_seconds,
            max_rows=self.max_result_rows,
            ready=self.workers_ready,
            ready_most=max(self.workers_ready, self.concurrency),
        )


class LimitsSection(_Section):
    """What callers may ask of the node; checked before anything costs a write."""

    requests_per_second: float = Field(
        default=50.0,
        gt=0,
        le=100_000,
        description="Steady rate of calls, for each participant and each user.",
    )
    burst: int = Field(
        default=100, ge=1, le=1_000_000, description="Calls that may come at once above that rate."
    )
    max_message_mib: int = Field(
        default=4, ge=1, le=64, description="Largest gRPC message, in MiB."
    )
    max_sql_kib: int = Field(
        default=64, ge=1, le=64, description="Longest SQL text of a request, in KiB."
    )


class MembershipSection(_Section):
    """Who is still a member."""

    status_max_age_seconds: int = Field(
        default=600,
        ge=10,
        le=86_400,
        description="For the operator: how long a status list that it signs is valid, in "
        "seconds. A member that has no newer one then decides nothing.",
    )


class TimeSection(_Section):
    """Clocks and waiting."""

    max_skew_seconds: int = Field(
        default=60,
        ge=1,
        le=60,
        description="How far a peer's event time may be from this node's, in seconds.",
    )
    shutdown_grace_seconds: float = Field(
        default=2.0,
        ge=0,
        le=600,
        description="How long calls in flight may go on when the node stops, in seconds.",
    )


class NodeSettings(BaseSettings):
    """All settings of a node. Make it with `load_settings`; it can't be changed."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter=_DELIMITER,
        enable_decoding=False,  # lists are written with commas, not as JSON
        validate_default=True,
    )

    node: NodeSection
    peer: PeerSection = PeerSection()
    user: UserSection = UserSection()
    logging: LoggingSection = LoggingSection()
    sandbox: SandboxSection = SandboxSection()
    limits: LimitsSection = LimitsSection()
    membership: MembershipSection = MembershipSection()
    time: TimeSection = TimeSection()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Takes values from `load_settings` alone, which has put the sources in order."""
        return (init_settings,)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, for reference pages and templates.

    Attributes:
        section: Such as ``sandbox``.
        key: Such as ``memory_mib``.
        description: What it does, with its unit.
        default: Its default; None where there is none.
        required: Whether it must be given.
        example: A value to show where there is no default.
    """

    section: str
    key: str
    description: str
    default: object
    required: bool
    example: object

    @property
    def name(self) -> str:
        """The dotted name."""
        return f"{self.section}.{self.key}"

    @property
    def environment_variable(self) -> str:
        """The environment variable that sets it."""
        return f"{ENVIRONMENT_PREFIX}{self.section}{_DELIMITER}{self.key}".upper()


def sections() -> dict[str, type[BaseModel]]:
    """Returns the settings' sections by name, in the order of the reference page."""
    found: dict[str, type[BaseModel]] = {}
    for name, field in NodeSettings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found[name] = field.annotation
    return found


def settings() -> Iterator[Setting]:
    """Yields every setting, section by section."""
    for section, model in sections().items():
        for key, field in model.model_fields.items():
            required = field.is_required()
            default = None if required else field.default
            example = field.examples[0] if field.examples else default
            yield Setting(section, key, field.description or "", default, required, example)


def load_settings(
    directory: Path,
    flags: Mapping[str, str] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
) -> NodeSettings:
    """Loads a node's settings.

    Args:
        directory: The node's directory, which holds ``node.toml``.
        flags: Dotted name to text, such as ``{"peer.listen": "127.0.0.1:0"}``.
        environment: The process's own by default.

    Raises:
        NodeError: CONFIGURATION_INVALID: a file that is missing or no TOML, an unknown name,
            a value that isn't allowed. The text names the setting and where it came from.
    """
    path = directory / FILE_NAME
    layers = (
        (str(path), _flatten(_read_file(path))),
        ("the environment", _read_environment(os.environ if environment is None else environment)),
        ("--set", dict(flags or {})),
    )
    known = {setting.name for setting in settings()}
    merged: dict[str, dict[str, Any]] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        for name, value in layer.items():
            if name not in known:
                raise _unknown(origin, name, known)
            section, _, key = name.partition(".")
            merged.setdefault(section, {})[key] = value
            origins[name] = origin
    try:
        loaded = NodeSettings.model_validate(merged)
    except ValidationError as error:
        raise _invalid(error, origins, str(path)) from None
    needs_listen = {"operator", "holder"}.intersection(loaded.node.roles)
    if needs_listen and loaded.peer.listen is None:
        raise NodeError(
            "CONFIGURATION_INVALID",
            f"peer.listen is missing in {path}: a node with the role {sorted(needs_listen)[0]} "
            "is reached by others.",
        )
    return loaded


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise NodeError(
            "CONFIGURATION_INVALID",
            f"{path} can't be read ({error.strerror}). `luoshu node init` makes one.",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise NodeError("CONFIGURATION_INVALID", f"{path} is no TOML: {error}.") from None


def _flatten(document: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for section, content in document.items():
        if isinstance(content, dict):
            flat |= {f"{section}.{key}": value for key, value in content.items()}
        else:
            flat[section] = content
    return flat


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    squashed = {re.sub("_+", "_", s.environment_variable): s for s in settings()}
    known = {s.environment_variable for s in settings()}
    for variable in environment:
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in known:
            continue
        meant = squashed.get(re.sub("_+", "_", variable))
        if meant is not None:
            raise NodeError(
                "CONFIGURATION_INVALID",
                f"The environment variable {variable} is unknown; did you mean "
                f"{meant.environment_variable}?",
            )
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if _DELIMITER in name:  # other LUOSHU_ variables are other programs'
            raise _unknown(
                "the environment",
                name.replace(_DELIMITER, ".", 1),
                {s.name for s in settings()},
            )
    source = EnvSettingsSource(NodeSettings)
    source.env_vars = {
        variable.lower(): value for variable, value in environment.items() if variable in known
    }
    try:
        return _flatten(source())
    except SettingsError as error:
        raise NodeError("CONFIGURATION_INVALID", f"The environment: {error}.") from None


def _unknown(origin: str, name: str, known: set[str]) -> NodeError:
    key = name.rpartition(".")[2]
    near = [other for other in sorted(known) if other.endswith(f".{key}")]
    near = near or difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else "."
    return NodeError("CONFIGURATION_INVALID", f"{origin}: {name} is no setting{hint}")


def _invalid(error: ValidationError, origins: Mapping[str, str], path: str) -> NodeError:
    texts = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        name = ".".join(str(part) for part in problem["loc"][:2])
        if problem["type"] == "missing":
            texts.append(f"{name} is missing in {path}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            texts.append(f"{name} ({origins.get(name, path)}): {message}")
    return NodeError("CONFIGURATION_INVALID", "; ".join(texts) + ".")
