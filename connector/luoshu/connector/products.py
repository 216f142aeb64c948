"""Prepared products on this node: where they lie, and how they get there.

`<node>/products/<local id>/` holds the product file as it was prepared and one
directory a preparation; `current` points to the newest. A preparation never
changes once it is there, so a computation that has opened one goes on with it
while the next is being made.
"""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Final

from luoshu.connector.catalog.entry_building import ShelvedProduct
from luoshu.connector.compute.budget import domain_limits
from luoshu.connector.errors import NodeError
from luoshu.contracts.errors import ContractsError
from luoshu.contracts.ids import check_label, parse_product_id
from luoshu.sandbox.errors import SandboxError
from luoshu.sandbox.isolation.port import Isolation
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.product_file import load_product_file
from luoshu.sandbox.registry import UnitDomain
from luoshu.sandbox.release.dp_budget import Guarantee

PRODUCTS: Final = "products"
PRODUCT_FILE: Final = "product.yaml"
UNITS: Final = "units"
"""Directory of the node's unit registries, one a privacy domain."""
_CURRENT: Final = "current"
_KEPT: Final = 2
"""Preparations kept: the newest, and the one before for computations under way."""


class NodeProducts:
    """Finds prepared products; reads the disk each time, so a new preparation counts at once."""

    def __init__(self, node_directory: Path) -> None:
        self._root = node_directory / PRODUCTS
        self._units = node_directory / UNITS

    def local_ids(self) -> tuple[str, ...]:
        """Local ids of all prepared products, sorted."""
        if not self._root.is_dir():
            return ()
        return tuple(sorted(p.name for p in self._root.iterdir() if (p / _CURRENT).exists()))

    def load(self, product: str) -> ShelvedProduct:
        """Loads a product by its local id.

        Raises:
            NodeError: NOT_FOUND, or PRODUCT_FILE_INVALID if what lies there is damaged.
        """
        try:
            directory = self._root / check_label(product) / _CURRENT
        except ContractsError:
            raise NodeError("NOT_FOUND") from None
        if not directory.is_dir():
            raise NodeError("NOT_FOUND")
        # Resolved once: what follows reads one preparation, whatever is made meanwhile.
        directory = directory.resolve()
        try:
            return ShelvedProduct(
                load_product_file(directory / PRODUCT_FILE), PreparedProduct.load(directory)
            )
        except SandboxError as error:
            raise NodeError("PRODUCT_FILE_INVALID", error.message) from error

    def prepared(self, product_id: str) -> PreparedProduct:
        """The prepared data of a product of this node, by its global id.

        Raises:
            NodeError: NOT_FOUND or PRODUCT_FILE_INVALID.
        """
        product = self.load(parse_product_id(product_id).local_id).prepared
        if product.domain and self._domain(product.domain).id != product.registry:
            raise NodeError(
                "PRODUCT_FILE_INVALID",
                "The product was prepared with another unit registry than the node's: prepare it "
                "again.",
            )
        return product

    def domain_secret(self, domain: str) -> bytes:
        """The 32 secret bytes of a privacy domain: keys of jitter and fingerprints.

        Raises:
            NodeError: PRODUCT_FILE_INVALID: its unit registry is missing or damaged.
        """
        return self._domain(domain).secret

    def _domain(self, name: str) -> UnitDomain:
        try:
            return UnitDomain.load(self._units, name)
        except SandboxError as error:
            raise NodeError("PRODUCT_FILE_INVALID", error.message) from error

    def domain_limits(self, domain: str) -> tuple[Guarantee, ...]:
        """The privacy budgets that the products of a domain declare.

        Raises:
            NodeError: PRODUCT_FILE_INVALID; what can't be read might be what limits.
        """
        try:
            declared = [
                load_product_file(self._root / name / _CURRENT / PRODUCT_FILE)
                for name in self.local_ids()
            ]
        except SandboxError as error:
            raise NodeError("PRODUCT_FILE_INVALID", error.message) from error
        return domain_limits(declared, domain)


def prepare_on_node(
    node_directory: Path, product_file: Path, isolation: Isolation
) -> PreparedProduct:
    """Prepares a product's data into a node's directory. The node may be running.

    Args:
        node_directory: The holder's node.
        product_file: YAML; its sources are relative to it.
        isolation: Where the preparation runs.

    Raises:
        NodeError: The product file or its data isn't right, or nothing can be isolated here.
    """
    from luoshu.sandbox.prepare import prepare_product  # noqa: PLC0415

    try:
        product = load_product_file(product_file)
        home = node_directory / PRODUCTS / check_label(product.id)
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = home / uuid.uuid4().hex
        target.mkdir(mode=0o700)
        try:
            prepared = prepare_product(
                product, product_file.parent, target, isolation, node_directory / UNITS
            )
            shutil.copyfile(product_file, target / PRODUCT_FILE)
        except BaseException:
            shutil.rmtree(target)
            raise
    except (SandboxError, ContractsError) as error:
        raise NodeError.from_reason(error) from error
    _make_current(home, target)
    return prepared


def _make_current(home: Path, target: Path) -> None:
    link = home / f".{target.name}.link"
    link.symlink_to(target.name)
    link.replace(home / _CURRENT)
    made = sorted(
        (p for p in home.iterdir() if p.is_dir() and not p.is_symlink()),
        key=lambda p: p.stat().st_mtime_ns,
    )
    for old in made[:-_KEPT]:
        shutil.rmtree(old)
