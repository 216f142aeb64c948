"""The main job on real data: five nodes, three holders, one analyst.

Every fact that is told was observed: a step that went otherwise ends the demo
with an exit code other than 0.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import partial
from importlib import resources
from pathlib import Path
from shlex import quote
from typing import Final

from rich.console import Console

from luoshu.connector.errors import NodeError
from luoshu.contracts.log.verify import verify_log_directory
from luoshu.contracts.membership import Role, UserRole
from luoshu.examples.local_space import (
    LocalNode,
    LocalSpace,
    LocalSpaceError,
    NodePlan,
    preparation,
    prepare,
)
from luoshu.examples.lung.offers import PURPOSE, offers_of
from luoshu.examples.story import Story
from luoshu.sdk import DataSpace, connect, verify_receipt_file
from luoshu.sdk.contract import Contract
from luoshu.sdk.errors import (
    ContractStateError,
    ExhaustedError,
    GuardRefusedError,
    LuoshuError,
    PolicyDeniedError,
)
from luoshu.sdk.product import Product
from luoshu.sdk.result import Result

HOLDERS: Final = ("north", "east", "south")
ANALYST: Final = "registry"
PRODUCT: Final = "lung-survival"

BY_SEX: Final = (
    "SELECT sex, count(*) AS patients, sum(died) AS deaths, "
    'avg("time") AS mean_days, avg(age) AS mean_age FROM lung_survival GROUP BY sex'
)
BY_ECOG: Final = (
    "SELECT ph_ecog, count(*) AS patients, sum(died) AS deaths, "
    'avg("time") AS mean_days FROM lung_survival GROUP BY ph_ecog'
)
RAW_ROWS: Final = "SELECT * FROM lung_survival"
SMALL_GROUP: Final = "SELECT count(*) AS patients FROM lung_survival WHERE inst = 33"


def run_demo(*, keep: Path | None = None, console: Console | None = None) -> Story:
    """Plays the demo.

    Args:
        keep: Leave the nodes' directories there; it must not exist yet.
        console: Where the story is told; a silent one for data only.

    Returns:
        The story; `story.holds` says whether everything went as told.
    """
    story = Story(console or Console())
    with ExitStack() as stack:
        if keep is None:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="luoshu-demo-")))
        else:
            root = keep.resolve()
            root.mkdir(mode=0o700, parents=True)
        space = stack.enter_context(LocalSpace(root, "alliance"))
        try:
            _Demo(story, space, root).play()
            space.stop()
        except (LuoshuError, NodeError, LocalSpaceError) as error:
            # A step that was not as told ends the story, and is part of it.
            story.fact("the story goes on", False, str(error))
            with suppress(LocalSpaceError):  # one that ended badly was told of
                space.stop()
        story.summary()
        if keep is not None:
            _how_to_go_on(story, space)
    return story


class _Demo:
    """The six steps; what one step makes, the next ones use."""

    def __init__(self, story: Story, space: LocalSpace, root: Path) -> None:
        self._story = story
        self._space = space
        self._root = root
        self._products: dict[str, Product] = {}
        self._contracts: dict[str, Contract] = {}
        self._console = story.console

    def play(self) -> None:
        """Plays all steps."""
        with self._story.step("A space is created and four nodes join it"):
            self._create()
        with ExitStack() as stack:
            analyst = stack.enter_context(connect(self._node(ANALYST).profile("analyst")))
            holders = {
                name: stack.enter_context(connect(self._node(name).profile())) for name in HOLDERS
            }
            with self._story.step("Three products are published and found"):
                self._publish(holders)
                self._search(analyst)
            with self._story.step("Contracts are negotiated and signed by both sides"):
                self._negotiate(analyst, holders)
            with self._story.step("Statistics are computed at each holder; only results leave"):
                self._compute()
            with self._story.step("What the contract doesn't allow is refused"):
                self._refuse(holders)
        with self._story.step("Every log verifies; a changed byte is found"):
            self._verify_logs()

    # 1

    def _create(self) -> None:
        story, space = self._story, self._space
        plans = [
            NodePlan.of("operator", Role.OPERATOR, en="Alliance office", zh="联盟运营方"),
            NodePlan.of("north", Role.HOLDER, en="Hospital alliance North", zh="北部医院联盟"),
            NodePlan.of("east", Role.HOLDER, en="Hospital alliance East", zh="东部医院联盟"),
            NodePlan.of("south", Role.HOLDER, en="Hospital alliance South", zh="南部医院联盟"),
            NodePlan.of(
                ANALYST,
                Role.ANALYST,
                en="Cancer registry",
                zh="肿瘤登记中心",
                users={"analyst": (UserRole.ANALYST,)},
            ),
        ]
        story.timed(
            "keys made",
            lambda: space.create(plans),
            lambda _: (len(space.nodes) == 5, "the authority, its CA, and five nodes' own keys"),
        )
        space.enrol("operator")
        for name in (*HOLDERS, ANALYST):
            story.timed(
                f"{name} enrolled",
                partial(space.enrol, name),
                lambda c: (
                    c.participant_id in {space.participant_id(n) for n in space.nodes},
                    f"{c.participant_id}, role {', '.join(r.value for r in c.roles)}",
                ),
            )
        story.timed(
            "five processes serve",
            space.start,
            lambda _: (
                len({node.pid for node in space.nodes.values()} - {None}) == 5,
                "pids " + ", ".join(str(node.pid) for node in space.nodes.values()),
            ),
        )
        self._turn_away_stranger()

    def _turn_away_stranger(self) -> None:
        """A real node of another space calls this space's operator over real TLS."""
        from luoshu.examples.stranger import knock  # noqa: PLC0415

        other = LocalSpace(self._root / "elsewhere", "elsewhere")
        (self._root / "elsewhere").mkdir(mode=0o700)
        other.create([NodePlan.of("stranger", Role.OPERATOR, Role.HOLDER)])
        other.enrol("stranger")
        operator = self._node("operator")
        own = knock(self._node("north").directory, operator)
        self._story.fact("a member's certificate", own == "served", own)
        answer = knock(other.nodes["stranger"].directory, operator)
        self._story.fact(
            "a certificate of the space “elsewhere”", answer.startswith("turned away"), answer
        )
        shutil.rmtree(other.root)

    # 2

    def _publish(self, holders: Mapping[str, DataSpace]) -> None:
        story = self._story
        with preparation() as sandbox, resources.as_file(resources.files(__package__)) as here:
            for name in HOLDERS:
                node = self._node(name)
                story.timed(
                    f"{name} prepares",
                    partial(prepare, node, here / f"{name}.yaml", sandbox),
                    lambda p: (
                        p.units > 0,
                        f"{p.rows} rows of {p.units} patients, {len(p.columns)} columns declared, "
                        f"floor {p.release.min_units} patients",
                    ),
                )
        for name, holder in holders.items():
            story.timed(
                f"{name} publishes",
                partial(holder.publish, PRODUCT, offers_of(name)),
                lambda p: (p.version == 1, f"{p.product_id}, version {p.version}"),
            )

    def _search(self, analyst: DataSpace) -> None:
        for text in ("肺癌", "survival"):
            found = self._story.timed(
                f"search “{text}”",
                partial(_found, analyst, text),
                lambda products: (
                    {p.issuer for p in products}
                    == {self._space.participant_id(name) for name in HOLDERS},
                    f"{len(products)} products, each signature checked: "
                    + "; ".join(p.title["zh"] for p in products),
                ),
            )
            self._products = {p.issuer.rsplit(":", 1)[-1]: p for p in found}

    # 3

    def _negotiate(self, analyst: DataSpace, holders: Mapping[str, DataSpace]) -> None:
        story = self._story
        self._contracts["north"] = story.timed(
            "north accepts",
            lambda: analyst.negotiate(self._products["north"], purpose=PURPOSE, uses=10),
            lambda c: (c.state == "ACTIVE", f"{c.state}, {c.terms.uses} uses"),
        )
        offered = story.timed(
            "east counter-offers",
            lambda: analyst.negotiate(self._products["east"], purpose=PURPOSE, uses=10),
            lambda c: (c.state == "OFFERED" and c.terms.uses == 3, f"{c.terms.uses} uses, not 10"),
        )
        self._contracts["east"] = story.timed(
            "the analyst takes it",
            offered.accept,
            lambda c: (c.state == "ACTIVE", f"{c.state}, {c.terms.uses} uses"),
        )
        story.timed(
            "south refuses the purpose “marketing”",
            lambda: analyst.negotiate(self._products["south"], purpose="marketing", uses=5),
            lambda c: (c.state == "TERMINATED", f"{c.state}: {c.reason}"),
        )
        self._contracts["south"] = story.timed(
            f"south accepts “{PURPOSE}”",
            lambda: analyst.negotiate(self._products["south"], purpose=PURPOSE, uses=5),
            lambda c: (c.state == "ACTIVE", f"{c.state}, {c.terms.uses} uses"),
        )
        for name, contract in self._contracts.items():
            theirs = holders[name].contract(contract.id)
            story.fact(
                f"both sides of {name} hold the same contract",
                theirs.state_hash == contract.state_hash,
                contract.state_hash,
            )

    # 4

    def _compute(self) -> None:
        story = self._story
        for title, sql in (("by sex", BY_SEX), ("by ECOG performance status", BY_ECOG)):
            rows: list[list[object]] = []
            columns: tuple[str, ...] = ()
            for name, contract in self._contracts.items():
                result = story.timed(
                    f"{name} computes {title}",
                    partial(contract.query, sql),
                    lambda r: (len(r) > 0, f"{len(r)} groups released, receipt #{r.receipt.index}"),
                )
                columns = ("holder", *result.columns)
                rows += [[name, *_rounded(row)] for row in _sorted(result)]
                self._keep_receipt(name, title, result)
            story.table(f"Survival {title}", columns, rows)

    def _keep_receipt(self, name: str, title: str, result: Result) -> None:
        path = self._root / f"receipt-{name}-{result.receipt.index}.json"
        result.receipt.save(path)
        trust = self._node(ANALYST).directory / "credentials" / "space.json"
        verified = verify_receipt_file(path, trust)
        self._story.fact(
            f"receipt of {name} verifies offline",
            verified.index == result.receipt.index,
            f"entry {verified.index} of the log of {verified.origin}",
        )

    # 5

    def _refuse(self, holders: Mapping[str, DataSpace]) -> None:
        story, contracts = self._story, self._contracts
        story.refused(
            "raw rows",
            lambda: contracts["north"].query(RAW_ROWS),
            GuardRefusedError,
            lambda e: e.reason.startswith("GUARD_"),
        )
        small = contracts["north"].query(SMALL_GROUP.replace("33", "10"))
        story.fact(
            "a group of 4 patients",
            small.rows() == [[None]],
            f"withheld: the count is {small.rows()[0][0]}",
        )
        ecog = contracts["south"].query(BY_ECOG)
        story.fact(
            "the one patient in south with ECOG status 3",
            3 not in [row[0] for row in ecog.rows()] and len(ecog) == 3,
            "withheld: released are " + ", ".join(str(row[0]) for row in _sorted(ecog)),
        )
        story.refused(
            "a purpose outside the contract",
            lambda: contracts["north"].query(BY_SEX, purpose="marketing"),
            PolicyDeniedError,
            lambda e: e.rule == "purpose" and e.decision is not None,
        )
        contracts["east"].query(BY_SEX)
        story.refused(
            "a fourth use of east, where three were agreed",
            lambda: contracts["east"].query(BY_SEX),
            ExhaustedError,
            lambda e: e.reason == "USES_EXHAUSTED" and contracts["east"].refresh().uses == 3,
        )
        holders["north"].contract(contracts["north"].id).revoke("The study has ended.")
        story.refused(
            "a use of north after revocation",
            lambda: contracts["north"].query(BY_SEX),
            ContractStateError,
            lambda e: e.reason == "CONTRACT_NOT_ACTIVE",
        )

    # 6

    def _verify_logs(self) -> None:
        story = self._story
        self._space.stop()
        for name, node in self._space.nodes.items():
            story.timed(
                f"log of {name}",
                partial(verify_log_directory, node.directory),
                lambda report: (report.ok, f"{report.size} entries, all hold"),
            )
        original = self._node("south").directory
        copy = self._root / "copy-of-south"
        shutil.copytree(original, copy)
        journal = copy / "log" / "journal"
        data = bytearray(journal.read_bytes())
        position = data.index(b"result_digest") + len(b'result_digest":"sha256:')
        data[position] = ord("0") if data[position] != ord("0") else ord("1")
        journal.write_bytes(data)
        report = story.timed(
            "one byte of a copy of south's log is changed",
            lambda: verify_log_directory(copy),
            lambda r: (not r.ok, "; ".join(str(problem) for problem in r.problems[:1])),
        )
        story.fact(
            "the log itself still verifies",
            verify_log_directory(original).ok and not report.ok,
            "unchanged",
        )

    def _node(self, name: str) -> LocalNode:
        return self._space.nodes[name]


def _found(space: DataSpace, text: str) -> list[Product]:
    return list(space.search(text))


def _sorted(result: Result) -> list[list[object]]:
    return sorted(result.rows(), key=lambda row: (row[0] is None, str(row[0])))


def _rounded(row: list[object]) -> list[object]:
    return [round(value, 1) if isinstance(value, float) else value for value in row]


def _how_to_go_on(story: Story, space: LocalSpace) -> None:
    lines = ["", "The nodes' directories are kept. To go on, each in a terminal of its own:"]
    lines += [f"  luoshu node serve {quote(str(node.directory))}" for node in space.nodes.values()]
    profile = space.nodes[ANALYST].profile("analyst")
    lines += [
        "then, as the analyst:",
        f"  export LUOSHU_PROFILE={quote(str(profile))}",
        "  luoshu catalog search 肺癌",
        "  luoshu contract list",
        f"  luoshu log verify {quote(str(space.nodes['south'].directory))}",
    ]
    for line in lines:
        story.console.print(line, markup=False, highlight=False, soft_wrap=True)
