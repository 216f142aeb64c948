"""The documentation against the program: commands parse or run, links lead somewhere.

In a fenced block (`sh` or `console`) every `luoshu` line must parse by the real command line,
and every `make` target must exist. A `console` block after `<!-- run -->` (or
`<!-- run exit=3 -->`) is run, and what it prints must match, `…` standing for anything.
"""

import os
import re
import shlex
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from luoshu.cli.main import app

ROOT = Path(__file__).parents[2]
# Typer carries its own click and exports only the leaves of its errors.
UsageError: Any = typer.BadParameter.__base__
SKIPPED = {"build", "dist", "__pycache__"}
LANGUAGES = ("README.md", "README.zh-CN.md")


def repository_files() -> Iterator[Path]:
    for folder, folders, files in os.walk(ROOT):
        here = Path(folder)
        folders[:] = [
            name
            for name in folders
            if name not in SKIPPED and (not name.startswith(".") or name == ".ci")
        ]
        yield from (here / name for name in files)


PAGES = sorted(path.relative_to(ROOT) for path in repository_files() if path.suffix == ".md")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, its lines and the comment just above it."""

    page: Path
    line: int
    language: str
    text: str
    directive: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> Iterator[list[str]]:
        """Each simple command, split into words; pipes and redirections end one."""
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        for line in lines:
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            command: list[str] = []
            for word in lexer:
                if set(word) <= set("|&;<>()"):
                    yield command
                    command = []
                elif command or not re.match(r"[A-Z_]+=", word):
                    command.append(word)
            yield command


def blocks(page: Path) -> Iterator[Block]:
    pattern = r"(?:<!-- (run[^>]*?) -->\n+)?^```(\w*)\n(.*?)^```$"
    text = (ROOT / page).read_text(encoding="utf-8")
    for match in re.finditer(pattern, text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, match.start(2)) + 1
        yield Block(page, line, match[2], match[3], match[1] or "")


BLOCKS = [block for page in PAGES for block in blocks(page)]
SHELL_BLOCKS = [block for block in BLOCKS if block.language in {"sh", "console"}]


def find_command(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words name, and the arguments left for it.

    Raises:
        LookupError: A group has no such command.
    """
    command: Any = typer.main.get_command(app)
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        if words[0] not in command.commands:
            raise LookupError(f"{command.name} has no command {words[0]}")
        command, words = command.commands[words[0]], words[1:]
    return command, words


def check_arguments(words: list[str]) -> None:
    """Parses as the program would, but runs nothing; a file need not exist here."""
    command, arguments = find_command(words)
    if "--help" in arguments or "--version" in arguments:
        return
    assert not hasattr(command, "commands"), f"luoshu {shlex.join(words)}: incomplete"
    try:
        command.make_context(command.name, arguments)
    except UsageError as error:
        if "does not exist" not in (message := error.format_message()):
            pytest.fail(f"luoshu {shlex.join(words)}: {message}")


@pytest.mark.parametrize("block", SHELL_BLOCKS, ids=str)
def test_commands_parse(block: Block) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for words in block.commands():
        if words and Path(words[0]).name == "luoshu":
            check_arguments(words[1:])
        elif words and words[0] == "make":
            named = {word for word in words[1:] if "=" not in word}
            assert named <= set(targets), f"no such target: {named - set(targets)}"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_in_running_text_exist(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    for span in re.findall(r"`luoshu ([a-z][^`]*)`", prose):
        find_command([word for word in span.split() if re.fullmatch(r"[a-z][a-z-]*", word)])


@pytest.mark.parametrize(
    "block", [block for block in SHELL_BLOCKS if block.directive.startswith("run")], ids=str
)
def test_output_is_what_the_page_shows(block: Block) -> None:
    assert block.language == "console"
    code = re.search(r"exit=(\d+)", block.directive)
    # What `make test` tells the programs below it must not reach a `make` that a page shows.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, shown = part.replace("\\\n", " ").split("\n", 1)
        done = subprocess.run(
            command,
            shell=True,
            cwd=ROOT,
            env={**outside, "PATH": path, "COLUMNS": "100"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == int(code[1] if code else 0), done.stderr
        expected = re.escape(shown.strip()).replace("…", ".*?")
        assert re.fullmatch(expected, done.stdout.strip(), re.DOTALL), done.stdout


def anchors(page: Path) -> set[str]:
    """The names that headings get as link targets on the hosting sites."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") for text in headings}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = (ROOT / page).parent / name if name else ROOT / page
        assert linked.exists(), f"{page}: {target} leads nowhere"
        assert not anchor or anchor in anchors(linked), f"{page}: {target} has no such heading"


def table_tests(page: str) -> list[str]:
    return re.findall(r"`(tests/[\w./]+(?:::\w+)?)`", (ROOT / page).read_text(encoding="utf-8"))


def test_both_readmes_have_the_same_shape() -> None:
    shapes = []
    for page in LANGUAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        commands = [list(block.commands()) for block in blocks(Path(page)) if block.language]
        levels = re.findall(r"^(#+) ", re.sub(r"(?s)^```.*?^```$", "", text, flags=re.M), re.M)
        shapes.append((levels, commands, table_tests(page), text.count("\n|")))
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("page", LANGUAGES)
def test_readme_names_tests_that_exist(page: str) -> None:
    named = table_tests(page)
    assert named
    for test in named:
        path, _, function = test.partition("::")
        assert (ROOT / path).exists(), f"{page}: no {path}"
        assert not function or f"def {function}(" in (ROOT / path).read_text(), f"{page}: no {test}"


def test_no_file_names_a_registry_or_a_machine() -> None:
    hosts = ["pypi|org", "pythonhosted|org", "crates|io", "registry.npmjs|org", "proxy.golang|org"]
    hosts += ["repo1.maven|org", "repo.maven.apache|org", "deb.debian|org"]
    places = ["/work/main", "/work/shared", "/work/.library", "/tmp/w/", "/root/"]
    words = [re.escape(host.replace("|", ".")) for host in hosts]
    forbidden = re.compile("|".join(words + [re.escape(place) for place in places]).encode())
    this = Path(__file__)
    for path in repository_files():
        if path != this and (found := forbidden.search(path.read_bytes())):
            pytest.fail(f"{path.relative_to(ROOT)} names {found[0].decode()}")


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_files_and_modules_that_are_named_exist(page: Path) -> None:
    roots = ("contracts", "policies", "sandbox", "connector", "proto/gen", "examples")
    for span in re.findall(r"`([^`\s]+)`", (ROOT / page).read_text(encoding="utf-8")):
        if re.fullmatch(
            r"(?:contracts|policies|sandbox|connector|proto|tests|docs)/[\w./-]*", span
        ):
            assert (ROOT / span).exists(), f"{page} names {span}"
        elif re.fullmatch(r"luoshu(?:\.[a-z_]+)+", span):
            places = [ROOT / root / span.replace(".", "/") for root in roots]
            there = any(place.is_dir() or place.with_suffix(".py").exists() for place in places)
            assert there, f"{page} names {span}"
