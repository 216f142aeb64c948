"""Preparing a product: its data becomes a read-only DuckDB file of declared columns.

The sources are read in an isolated worker; only the manifest is written here.
What a product file may say and this version can't execute is refused, never
skipped.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from luoshu.contracts.canonical import JsonObject, JsonValue, digest_of
from luoshu.contracts.errors import CanonicalError
from luoshu.sandbox.errors import PreparationError, SandboxUnavailableError, legible
from luoshu.sandbox.isolation.port import Isolation, Mount, WorkerError, WorkerSpec
from luoshu.sandbox.leftovers import held_directory
from luoshu.sandbox.preparation_answer import WRONG_ANSWER, check_answer, read_answer
from luoshu.sandbox.prepared import (
    MANIFEST,
    PREPARED,
    PreparedProduct,
    file_digest,
    write_manifest,
)
from luoshu.sandbox.product_file import ProductFile, RowsRelease, Source, TableRule
from luoshu.sandbox.registry import GrowingRegistry, growing_registry, require_regular
from luoshu.sandbox.release_floor import DP, ReleaseFloor
from luoshu.sandbox.unit_paths import UnitSource

_MAX_MESSAGE = 4096
_DOCTOR = "Run `luoshu doctor`."


def prepare_product(
    product: ProductFile,
    base_dir: Path | str,
    out_dir: Path | str,
    isolation: Isolation,
    registry: Path | str,
) -> PreparedProduct:
    """Prepares a product; blocks, and must not be called on an event loop's thread.

    Args:
        product: As declared.
        base_dir: What relative source paths start from: the product file's directory.
        out_dir: Made if missing; gets `prepared.duckdb` and `manifest.json`, and an earlier
            preparation there is replaced only if this one succeeds.
        isolation: The wall (`Sandbox.isolation`).
        registry: The directory of the holder's unit registries; made if missing. The product's
            units get their ids there.

    Raises:
        PreparationError: The data isn't as declared, the product asks for what isn't there, or
            another product of its privacy domain is being prepared.
        SandboxUnavailableError: This machine can't isolate the preparation.
    """
    return asyncio.run(prepare(product, Path(base_dir), Path(out_dir), isolation, Path(registry)))


async def prepare(
    product: ProductFile, base_dir: Path, out_dir: Path, isolation: Isolation, registry: Path
) -> PreparedProduct:
    """Like `prepare_product`, on an event loop."""
    floor = _executable_release(product)
    digest = _product_digest(product)
    paths = {
        name: await asyncio.to_thread(_source_file, product, rule, base_dir)
        for name, rule in product.table_rules.items()
    }
    await asyncio.to_thread(out_dir.mkdir, parents=True, exist_ok=True)
    # Absolute: what starts the workers has another working directory.
    out_dir = await asyncio.to_thread(out_dir.resolve)
    held = ExitStack()
    try:
        holding = held_directory(out_dir, ".preparing-")
        held_dir = await asyncio.to_thread(held.enter_context, holding)
        work_dir = held_dir / "worker"
        growing = None
        await asyncio.to_thread(work_dir.mkdir, mode=0o700)
        if product.domain:
            locking = growing_registry(registry, product.domain)
            growing = await asyncio.to_thread(held.enter_context, locking)
        said = await _run(product, floor, _Places(paths, work_dir, growing), isolation)
        answer, new_units = read_answer(said)
        await asyncio.to_thread(_take, work_dir / PREPARED, held_dir / PREPARED)
        fields: JsonObject = {
            "product": product.id,
            "product_digest": digest,
            "source_digest": await asyncio.to_thread(_source_digest, paths),
            "name": product.table_name,
            "domain": product.domain,
            "registry": growing.domain.id if growing else "",
            "release": floor.to_json(),
            **answer,
            "prepared_digest": await asyncio.to_thread(file_digest, held_dir / PREPARED),
        }
        await asyncio.to_thread(_check, product, held_dir, fields)
        if growing:
            # First, and durable: no id may be in use that could be given away again.
            await asyncio.to_thread(growing.commit, new_units)
        await asyncio.to_thread(_install, held_dir, out_dir)
    finally:
        await asyncio.to_thread(held.close)
    return await asyncio.to_thread(PreparedProduct.load, out_dir)


def _take(left: Path, target: Path) -> None:
    """Takes the one file that is wanted away from what the worker left."""
    require_regular(left)
    left.rename(target)


def _check(product: ProductFile, held_dir: Path, fields: JsonObject) -> None:
    """Writes the manifest and reads it again, before it takes the place of an earlier one."""
    try:
        write_manifest(held_dir, fields)
    except CanonicalError:
        raise PreparationError(WRONG_ANSWER) from None
    check_answer(product, PreparedProduct.read(held_dir))


def _product_digest(product: ProductFile) -> str:
    try:
        return digest_of(_canonical(product.model_dump(exclude_none=True)))
    except CanonicalError as error:
        raise PreparationError(
            f"{product.id}: the product file holds what can't be written down: {error}."
        ) from None


def _source_digest(paths: Mapping[str, Path]) -> str:
    digests = {path: file_digest(path) for path in sorted(set(paths.values()))}
    if len(paths) == 1:
        return next(iter(digests.values()))
    lines = "".join(f"{digests[path]}  {name}\n" for name, path in sorted(paths.items()))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def _executable_release(product: ProductFile) -> ReleaseFloor:
    release = product.release
    if isinstance(release, RowsRelease):
        raise PreparationError(
            f"{product.id}: the release mode `{release.mode}` is not there yet; use `aggregate`."
        )
    return ReleaseFloor.of(release)


def _source_file(product: ProductFile, source: Source, base_dir: Path) -> Path:
    if source.kind == "postgres":
        raise PreparationError(
            f"{product.id}: postgres sources are not there yet, since a preparation has no "
            "network; export the table to Parquet."
        )
    path = (base_dir / (source.path or "")).resolve()
    if not path.is_file():
        raise PreparationError(f"There is no file {path}; correct `source` in the product file.")
    wal = path.with_name(f"{path.name}.wal")
    if source.kind == "duckdb" and wal.exists():
        raise PreparationError(
            f"{path} has changes that are not checkpointed ({wal.name}); close the program that "
            "writes it, or run CHECKPOINT."
        )
    return path


def _table_job(rule: TableRule, source: UnitSource, mounted: str) -> dict[str, object]:
    columns = None
    if rule.columns is not None:
        columns = [
            {
                "name": name,
                "use": sorted(str(use) for use in column.use),
                "bounds": [str(bound) for bound in column.bounds] if column.bounds else None,
                "values": list(column.values) if column.values is not None else None,
                "decimals": column.decimals,
            }
            for name, column in rule.columns.items()
        ]
    return {
        "name": source.table,
        "kind": rule.kind,
        "path": mounted,
        "source_table": rule.table,
        "unit": source.column,
        "within": source.within,
        "via": source.via,
        "on": [list(pair) for pair in source.on],
        "keys": [{"domain": key.domain, "columns": list(key.columns)} for key in source.keys],
        "unique": list(rule.key or ()),
        "columns": columns,
    }


@dataclass(frozen=True, slots=True)
class _Places:
    """Where a preparation reads and writes.

    Attributes:
        sources: The source file of each table.
        work_dir: Gets the prepared file.
        growing: The registry, or None if the product protects nobody.
    """

    sources: Mapping[str, Path]
    work_dir: Path
    growing: GrowingRegistry | None

    @property
    def targets(self) -> dict[Path, str]:
        """Where each source file is mounted; a file of several tables once."""
        files = dict.fromkeys(self.sources.values())
        return {path: f"/source/{number}" for number, path in enumerate(files)}

    @property
    def mounts(self) -> tuple[Mount, ...]:
        """What the worker sees."""
        mounts = [Mount(path, target) for path, target in self.targets.items()]
        mounts.append(Mount(self.work_dir, "/out", writable=True))
        if self.growing:
            mounts.append(Mount(self.growing.work_dir, "/units", writable=True))
        return tuple(mounts)


async def _run(
    product: ProductFile, floor: ReleaseFloor, places: _Places, isolation: Isolation
) -> dict[str, object]:
    config = isolation.config
    limits = config.limits.for_preparation()
    rules, targets = product.table_rules, places.targets
    job = {
        "type": "prepare",
        "tables": [
            _table_job(rules[source.table], source, targets[places.sources[source.table]])
            for source in product.unit_sources
        ],
        "is_clamped": floor.mode == DP,
        "salt": places.growing.domain.salt.hex() if places.growing else "",
        "memory_bytes": limits.memory_bytes // 2,
        "threads": config.threads,
    }
    worker = await isolation.start(WorkerSpec("prepare", places.mounts, limits))
    try:
        try:
            await worker.receive()  # ready
        except WorkerError:
            findings = await asyncio.to_thread(isolation.check)
            said = f"{findings[0].message} {findings[0].remedy}" if findings else _DOCTOR
            raise SandboxUnavailableError(f"The data can't be prepared here. {said}") from None
        try:
            await worker.send(job)
            answer = await worker.receive()
        except WorkerError as error:
            end = await worker.stop()
            raise PreparationError(
                f"The preparation ended early ({error}; {end.status}). If the data is large, give "
                "the sandbox more memory."
            ) from None
    finally:
        ended = await worker.stop()
    if not ended.is_seen:
        raise PreparationError("Nobody saw the preparation end: start again what prepares.")
    if answer.get("type") == "failed":
        said = legible(str(answer.get("message")), _MAX_MESSAGE)
        raise PreparationError(f"{product.table_name}: {said}")
    return answer


def _canonical(value: object) -> JsonValue:
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return [_canonical(item) for item in sorted(value)]
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if value is None or isinstance(value, bool | int):
        return value
    return str(value)  # paths, dates, and numbers that canonical JSON has no place for


def _install(held_dir: Path, out_dir: Path) -> None:
    (held_dir / PREPARED).chmod(0o400)  # protected data is the holder's alone
    # The old manifest goes first: a crash in between leaves nothing that loads.
    (out_dir / MANIFEST).unlink(missing_ok=True)
    (held_dir / PREPARED).replace(out_dir / PREPARED)
    (held_dir / MANIFEST).replace(out_dir / MANIFEST)
