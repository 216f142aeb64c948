"""Preparing a product: its data becomes a read-only DuckDB file of declared columns.

The source is read in an isolated worker; only the manifest is written here.
What a product file may say and this version can't execute is refused, never
skipped.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from luoshu.contracts.canonical import JsonObject, JsonValue, digest_of
from luoshu.contracts.errors import CanonicalError
from luoshu.sandbox.errors import PreparationError, SandboxUnavailableError
from luoshu.sandbox.isolation.port import Isolation, Mount, WorkerError, WorkerSpec
from luoshu.sandbox.prepared import (
    MANIFEST,
    PREPARED,
    PreparedProduct,
    file_digest,
    write_manifest,
)
from luoshu.sandbox.product_file import AggregateRelease, ProductFile, Source

_DOCTOR = "Run `luoshu doctor`."
_LATER = ("jitter", "dominance", "scope", "debits")


def prepare_product(
    product: ProductFile, base_dir: Path | str, out_dir: Path | str, isolation: Isolation
) -> PreparedProduct:
    """Prepares a product; blocks, and must not be called on an event loop's thread.

    Args:
        product: As declared.
        base_dir: What relative source paths start from: the product file's directory.
        out_dir: Made if missing; gets `prepared.duckdb` and `manifest.json`, and an earlier
            preparation there is replaced only if this one succeeds.
        isolation: The wall (`Sandbox.isolation`).

    Raises:
        PreparationError: The data isn't as declared, or the product asks for what isn't there.
        SandboxUnavailableError: This machine can't isolate the preparation.
    """
    return asyncio.run(prepare(product, Path(base_dir), Path(out_dir), isolation))


async def prepare(
    product: ProductFile, base_dir: Path, out_dir: Path, isolation: Isolation
) -> PreparedProduct:
    """Like `prepare_product`, on an event loop."""
    release = _executable_release(product)
    source = _executable_source(product)
    digest = _product_digest(product)
    path = await asyncio.to_thread(_source_file, source, base_dir)
    job = _job(product, source)
    await asyncio.to_thread(out_dir.mkdir, parents=True, exist_ok=True)
    # Absolute: what starts the workers has another working directory.
    out_dir = await asyncio.to_thread(out_dir.resolve)
    work_dir = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=".preparing-", dir=out_dir))
    try:
        answer = await _run(job, path, work_dir, isolation)
        fields: JsonObject = {
            "product": product.id,
            "product_digest": digest,
            "source_digest": await asyncio.to_thread(file_digest, path),
            "engine": answer["engine"],
            "table": product.table_name,
            "privacy_unit": product.privacy_unit or "",
            "columns": answer["columns"],
            "rows": answer["rows"],
            "units": answer["units"],
            "release": {"mode": release.mode, "min_units": release.min_units},
            "notes": answer["notes"],
            "prepared_digest": await asyncio.to_thread(file_digest, work_dir / PREPARED),
        }
        await asyncio.to_thread(_install, work_dir, out_dir, fields)
    finally:
        await asyncio.to_thread(shutil.rmtree, work_dir, ignore_errors=True)
    return await asyncio.to_thread(PreparedProduct.load, out_dir)


def _product_digest(product: ProductFile) -> str:
    try:
        return digest_of(_canonical(product.model_dump(exclude_none=True)))
    except CanonicalError as error:
        raise PreparationError(
            f"{product.id}: the product file holds what can't be written down: {error}."
        ) from None


def _executable_release(product: ProductFile) -> AggregateRelease:
    release = product.release
    if not isinstance(release, AggregateRelease):
        raise PreparationError(
            f"{product.id}: the release mode `{release.mode}` is not there yet; use `aggregate`."
        )
    given = [name for name in _LATER if getattr(release, name) is not None]
    if given:
        raise PreparationError(
            f"{product.id}: release.{given[0]} is not there yet, and a rule that would not be "
            "applied must not be promised; remove it."
        )
    return release


def _executable_source(product: ProductFile) -> Source:
    if product.source is None:
        raise PreparationError(
            f"{product.id}: products of several `tables` are not there yet; offer each table as "
            "a product with `source`, `privacy_unit` and `columns`."
        )
    if product.source.kind == "postgres":
        raise PreparationError(
            f"{product.id}: postgres sources are not there yet, since a preparation has no "
            "network; export the table to Parquet."
        )
    if product.privacy_domain is not None:
        raise PreparationError(
            f"{product.id}: privacy_domain is not there yet, and a rule that would not be applied "
            "must not be promised; remove it."
        )
    return product.source


def _source_file(source: Source, base_dir: Path) -> Path:
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


def _job(product: ProductFile, source: Source) -> dict[str, object]:
    columns = [
        {
            "name": name,
            "use": sorted(str(use) for use in rule.use),
            "bounds": [str(bound) for bound in rule.bounds] if rule.bounds else None,
            "values": list(rule.values) if rule.values is not None else None,
            "decimals": rule.decimals,
        }
        for name, rule in (product.columns or {}).items()
    ]
    return {
        "type": "prepare",
        "kind": source.kind,
        "source_table": source.table,
        "table": product.table_name,
        "unit": product.privacy_unit,
        "columns": columns,
    }


async def _run(
    job: dict[str, object], path: Path, work_dir: Path, isolation: Isolation
) -> dict[str, JsonValue]:
    config = isolation.config
    limits = config.limits.for_preparation()
    mounts = (Mount(path, "/source/data"), Mount(work_dir, "/out", writable=True))
    worker = await isolation.start(WorkerSpec("prepare", mounts, limits))
    try:
        try:
            await worker.receive()  # ready
        except WorkerError:
            findings = await asyncio.to_thread(isolation.check)
            said = f"{findings[0].message} {findings[0].remedy}" if findings else _DOCTOR
            raise SandboxUnavailableError(f"The data can't be prepared here. {said}") from None
        try:
            await worker.send(
                {**job, "memory_bytes": limits.memory_bytes // 2, "threads": config.threads}
            )
            answer = await worker.receive()
        except WorkerError as error:
            end = await worker.stop()
            raise PreparationError(
                f"The preparation ended early ({error}; {end.status}). If the data is large, give "
                "the sandbox more memory."
            ) from None
    finally:
        await worker.stop()
    if answer.get("type") == "failed":
        raise PreparationError(f"{job['table']}: {answer.get('message')}")
    return answer  # type: ignore[return-value]  # the manifest's reader checks its form


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


def _install(work_dir: Path, out_dir: Path, fields: JsonObject) -> None:
    write_manifest(work_dir, fields)
    (work_dir / PREPARED).chmod(0o400)  # protected data is the holder's alone
    # The old manifest goes first: a crash in between leaves nothing that loads.
    (out_dir / MANIFEST).unlink(missing_ok=True)
    (work_dir / PREPARED).replace(out_dir / PREPARED)
    (work_dir / MANIFEST).replace(out_dir / MANIFEST)
