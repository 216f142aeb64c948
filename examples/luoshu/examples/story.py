"""A scenario tells what it does, and checks each thing it tells.

A `Story` is steps made of facts. A fact is what was expected beside what was
observed; the story holds only if every fact does. It prints as it goes, and
gives the same as data at the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from rich.console import Console
from rich.table import Table

T = TypeVar("T")
E = TypeVar("E", bound=Exception)


@dataclass(slots=True)
class Fact:
    """One thing told: what it is, whether it is so, and what was seen."""

    name: str
    holds: bool
    observed: str
    milliseconds: float

    def to_json(self) -> dict[str, object]:
        """The fact as data."""
        return {
            "name": self.name,
            "holds": self.holds,
            "observed": self.observed,
            "milliseconds": round(self.milliseconds, 1),
        }


@dataclass(slots=True)
class Step:
    """One numbered step of the story."""

    number: int
    title: str
    facts: list[Fact] = field(default_factory=list)
    results: dict[str, object] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Every fact holds, and there is one."""
        return bool(self.facts) and all(fact.holds for fact in self.facts)

    def to_json(self) -> dict[str, object]:
        """The step as data."""
        return {
            "step": self.number,
            "title": self.title,
            "holds": self.holds,
            "seconds": round(self.seconds, 3),
            "facts": [fact.to_json() for fact in self.facts],
            "results": self.results,
        }


class Story:
    """Tells steps on a console and keeps them as data."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._started = time.perf_counter()
        self.steps: list[Step] = []

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Opens the next step; its time runs until the block ends."""
        step = Step(len(self.steps) + 1, title)
        self.steps.append(step)
        self.console.print(f"\n[bold]{step.number}. {title}[/bold]")
        started = time.perf_counter()
        try:
            yield step
        finally:
            step.seconds = time.perf_counter() - started

    def fact(self, name: str, holds: bool, observed: str, *, milliseconds: float = 0.0) -> None:
        """Tells one fact of the present step."""
        self.steps[-1].facts.append(Fact(name, holds, observed, milliseconds))
        mark = "[green]✓[/green]" if holds else "[bold red]✗[/bold red]"
        took = f" [dim]{milliseconds:.0f} ms[/dim]" if milliseconds else ""
        self.console.print(f"  {mark} {name}: ", end="")
        self.console.print(observed, markup=False, highlight=False, end="")
        self.console.print(took)

    def timed(
        self, name: str, action: Callable[[], T], describe: Callable[[T], tuple[bool, str]]
    ) -> T:
        """Does something, and tells whether what came of it is as told."""
        started = time.perf_counter()
        outcome = action()
        milliseconds = (time.perf_counter() - started) * 1000
        holds, observed = describe(outcome)
        self.fact(name, holds, observed, milliseconds=milliseconds)
        return outcome

    def refused(
        self, name: str, action: Callable[[], object], error: type[E], expected: Callable[[E], bool]
    ) -> None:
        """Does something that must be refused, and tells the refusal's reason.

        The fact holds only if `error` was raised and is the expected one;
        anything else that is raised passes through.
        """
        started = time.perf_counter()
        try:
            action()
        except error as refusal:
            milliseconds = (time.perf_counter() - started) * 1000
            self.fact(name, expected(refusal), f"refused: {refusal}", milliseconds=milliseconds)
        else:
            self.fact(name, False, "was not refused")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Shows rows, and keeps them as data of the present step."""
        shown = Table(title=title, title_justify="left", title_style="italic", box=None)
        for column in columns:
            shown.add_column(column, justify="left" if column == columns[0] else "right")
        for row in rows:
            shown.add_row(*("—" if value is None else str(value) for value in row))
        self.console.print(shown)
        self.steps[-1].results[title] = [dict(zip(columns, row, strict=True)) for row in rows]

    @property
    def holds(self) -> bool:
        """Every step holds, and there is one."""
        return bool(self.steps) and all(step.holds for step in self.steps)

    def summary(self) -> None:
        """Prints one line a step, and the verdict."""
        facts = [fact for step in self.steps for fact in step.facts]
        self.console.print("\n[bold]Summary[/bold]")
        for step in self.steps:
            mark = "[green]✓[/green]" if step.holds else "[bold red]✗[/bold red]"
            self.console.print(
                f"  {mark} {step.number}. {step.title} "
                f"[dim]({len(step.facts)} facts, {step.seconds:.1f} s)[/dim]"
            )
        held = sum(fact.holds for fact in facts)
        self.console.print(
            f"  {held} of {len(facts)} facts hold; {time.perf_counter() - self._started:.1f} s"
        )

    def to_json(self) -> dict[str, object]:
        """The whole story as data."""
        return {
            "holds": self.holds,
            "seconds": round(time.perf_counter() - self._started, 3),
            "steps": [step.to_json() for step in self.steps],
        }
