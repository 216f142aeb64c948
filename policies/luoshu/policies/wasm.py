"""Policies compiled by OPA to WebAssembly, run by wasmtime.

Implements OPA's Wasm ABI 1.2 and later
(https://www.openpolicyagent.org/docs/latest/wasm/): the module imports a memory, an abort
function and five built-in dispatchers, and exports ``opa_eval``. What this adapter adds:

* **Nothing survives a decision.** Each one gets a fresh store, memory and instance, so no
  input can influence a later one and threads share only the compiled, immutable module.
* **Nothing is unbounded.** Fuel bounds the time, in executed instructions, so that running
  out is as deterministic as the decision itself; the memory has a maximum.
* **Nothing comes from the host.** A module that needs a host built-in (time, HTTP, random
  numbers) is refused at load: its decisions would not replay.
* **Everything else is a refusal.** A trap, an abort, an undefined or malformed result raises
  `PolicyUnavailableError`.
"""

import json
import weakref
from collections.abc import Callable
from typing import Final, NoReturn

from wasmtime import (
    Config,
    Engine,
    Func,
    FuncType,
    Global,
    Instance,
    Limits,
    Memory,
    MemoryType,
    Module,
    Store,
    Trap,
    WasmtimeError,
)

from luoshu.contracts.canonical import JsonObject, canonicalize, digest
from luoshu.contracts.errors import CanonicalError
from luoshu.policies.bundle import PolicyBundle
from luoshu.policies.decision_input import MAX_INPUT_BYTES
from luoshu.policies.engine import Decision, PolicyUnavailableError, Reason

FUEL: Final = 2_000_000_000
"""Instructions one decision may execute; a usual one needs under a million."""

MAX_MEMORY_BYTES: Final = 128 << 20
"""Memory one decision may use; a usual one needs 192 KiB."""

_MAX_RESULT_BYTES: Final = 64 << 10
_PAGE: Final = 64 << 10
_NEW_ABI: Final = (1, 2)  # the first with the one-shot opa_eval


class _AbiError(Exception):
    """The module doesn't behave as OPA's ABI says."""


class _HostCallError(Exception):
    """The module called a function that no policy of ours may call, or aborted."""


# ValueError: text that is no JSON. LookupError: a missing export, an address outside the memory.
_FAILURES: Final = (WasmtimeError, Trap, _AbiError, _HostCallError, ValueError, LookupError)


class WasmPolicyEngine:
    """Decides by one Wasm policy; implements ``PolicyEngine`` and may be shared by threads."""

    def __init__(
        self,
        bundle: PolicyBundle,
        *,
        fuel: int = FUEL,
        max_memory_bytes: int = MAX_MEMORY_BYTES,
    ) -> None:
        """Compiles the policy and checks that it is one this adapter can run.

        Args:
            bundle: The policy.
            fuel: Instructions per decision.
            max_memory_bytes: Memory per decision, in bytes.

        Raises:
            PolicyUnavailableError: If the module isn't an OPA policy of a known ABI with the
                bundle's entry point, or needs a host built-in.
        """
        self._digest = bundle.digest
        self._fuel = fuel
        self._max_memory_bytes = max_memory_bytes
        config = Config()
        config.consume_fuel = True
        config.wasm_threads = False
        self._engine = Engine(config)
        try:
            self._module = Module(self._engine, bundle.wasm)
            run = _Run(self._engine, self._module, FUEL, max_memory_bytes)
            if run.abi_version() < _NEW_ABI:
                raise _unavailable("the policy's Wasm ABI is too old")
            if run.table("builtins"):
                raise _unavailable("the policy needs host built-ins, which don't replay")
            entry_point = run.table("entrypoints").get(bundle.entry_point)
        except _FAILURES as error:
            raise _unavailable("the policy's module can't be loaded", error) from error
        if not isinstance(entry_point, int):
            raise _unavailable("the policy has no such entry point")
        self._entry_point = entry_point
        # Freed before the interpreter takes wasmtime's Python apart, which its own destructors
        # don't survive.
        weakref.finalize(self, _close, self._module, self._engine)

    @property
    def policy_digest(self) -> str:
        """``sha256:…`` of the Wasm module."""
        return self._digest

    def decide(self, decision_input: JsonObject) -> Decision:
        """Decides on ``decision_input``.

        Raises:
            PolicyUnavailableError: If the input is no canonical JSON or larger than 256 KiB,
                or the policy traps, runs out of fuel or memory, or its answer is undefined
                or malformed.
        """
        try:
            data = canonicalize(decision_input)
        except CanonicalError as error:
            raise _unavailable("the decision input is no canonical JSON", error) from error
        if len(data) > MAX_INPUT_BYTES:
            raise _unavailable("the decision input is too large")
        try:
            run = _Run(self._engine, self._module, self._fuel, self._max_memory_bytes)
            result = run.evaluate(self._entry_point, data)
        except _FAILURES as error:
            raise _unavailable("the policy gave no answer", error) from error
        allow, reasons = _read_result(result)
        return Decision(allow, reasons, self._digest, digest(data))


class _Run:
    """One instance of the module, used for one evaluation."""

    def __init__(self, engine: Engine, module: Module, fuel: int, max_memory_bytes: int) -> None:
        self._store = Store(engine)
        self._store.set_limits(memory_size=max_memory_bytes, instances=1, memories=1)
        self._store.set_fuel(fuel)
        imports: list[Func | Memory] = []
        memory: Memory | None = None
        for wanted in module.imports:
            if isinstance(wanted.type, FuncType):
                imports.append(Func(self._store, wanted.type, _refusal(wanted.name or "")))
            elif isinstance(wanted.type, MemoryType) and memory is None:
                limits = Limits(wanted.type.limits.min, max_memory_bytes // _PAGE)
                memory = Memory(self._store, MemoryType(limits))
                imports.append(memory)
            else:
                raise _AbiError("unknown import")
        if memory is None:
            raise _AbiError("no memory import")
        self._memory = memory
        self._exports = Instance(self._store, module, imports).exports(self._store)

    def abi_version(self) -> tuple[int, int]:
        """Returns the module's ABI version, major and minor."""
        return (self._global("opa_wasm_abi_version"), self._global("opa_wasm_abi_minor_version"))

    def table(self, export: str) -> dict[str, object]:
        """Returns the module's table of ``builtins`` or ``entrypoints``, name to number."""
        address = self._call("opa_json_dump", self._call(export))
        table = json.loads(self._string_at(address))
        if not isinstance(table, dict):
            raise _AbiError(f"{export} is no table")
        return table

    def evaluate(self, entry_point: int, data: bytes) -> bytes:
        """Evaluates the entry point on the input document ``data``; returns the result JSON."""
        base = self._call("opa_malloc", 2)
        self._memory.write(self._store, b"{}", base)
        no_data = self._call("opa_json_parse", base, 2)
        # The ABI puts the input at the heap's end and starts the heap behind it.
        address = self._call("opa_heap_ptr_get")
        missing = address + len(data) - self._memory.data_len(self._store)
        if missing > 0:
            self._memory.grow(self._store, -(-missing // _PAGE))
        self._memory.write(self._store, data, address)
        end = address + len(data)
        json_format = 0
        return self._string_at(
            self._call("opa_eval", 0, entry_point, no_data, address, len(data), end, json_format)
        )

    def _call(self, export: str, *arguments: int) -> int:
        function = self._exports[export]
        if not isinstance(function, Func):
            raise _AbiError(f"{export} is no function")
        result: object = function(self._store, *arguments)
        if not isinstance(result, int):
            raise _AbiError(f"{export} returned nothing")
        return result & 0xFFFFFFFF  # wasmtime gives addresses as signed numbers

    def _global(self, export: str) -> int:
        found = self._exports[export]
        value: object = found.value(self._store) if isinstance(found, Global) else None
        if not isinstance(value, int):
            raise _AbiError(f"{export} is no number")
        return value

    def _string_at(self, address: int) -> bytes:
        stop = min(address + _MAX_RESULT_BYTES, self._memory.data_len(self._store))
        text, end, _ = bytes(self._memory.read(self._store, address, stop)).partition(b"\0")
        if not end:
            raise _AbiError("the result is too long")
        return text


def _close(module: Module, engine: Engine) -> None:
    module.close()
    engine.close()


def _refusal(name: str) -> Callable[..., NoReturn]:
    def refuse(*_: object) -> NoReturn:
        raise _HostCallError(name)

    return refuse


def _read_result(result: bytes) -> tuple[bool, tuple[Reason, ...]]:
    """Reads ``[{"result": {"allow": …, "reasons": […]}}]``; anything else is no decision."""
    try:
        answer = json.loads(result)
    except ValueError as error:
        raise _unavailable("the policy's answer is no JSON", error) from error
    match answer:
        case [{"result": {"allow": bool(allow), "reasons": list(items), **others}}] if not others:
            reasons = tuple(_read_reason(item) for item in items)
        case _:
            raise _unavailable("the policy's answer is undefined or malformed")
    if allow == bool(reasons):
        raise _unavailable("the policy's answer contradicts its reasons")
    return allow, reasons


def _read_reason(item: object) -> Reason:
    match item:
        case {"rule": str(rule), "message": str(message), **others} if not others:
            return Reason(rule, message)
        case _:
            raise _unavailable("a reason of the policy's answer is malformed")


def _unavailable(private: str, cause: BaseException | None = None) -> PolicyUnavailableError:
    # A trap's own text can quote the policy but never the input; the type is enough here.
    detail = f"{private} ({type(cause).__name__})" if cause else private
    return PolicyUnavailableError(
        "The policy engine gave no decision, so nothing was computed. Try again; if it stays "
        "so, the node's administrator runs `luoshu doctor`.",
        private=detail,
    )
