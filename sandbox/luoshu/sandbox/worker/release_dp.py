"""The release worker of mode `dp`: contributions in, noisy cells out.

An entry point of its own, so that OpenDP is in the root of this worker only, and loads while
stage 1 still computes. It needs no history and nothing of what others were told.
"""

from __future__ import annotations

from luoshu.sandbox import wire
from luoshu.sandbox.release import dp
from luoshu.sandbox.release.dp_plan import DpRules
from luoshu.sandbox.worker import memory
from luoshu.sandbox.worker.enclosure import landlock
from luoshu.sandbox.worker.enclosure.seal import CODE, seal
from luoshu.sandbox.worker.release import Release
from luoshu.sandbox.worker.stage import Channel, Message, run


class NoisyRelease(Release):
    """One release job under mode `dp`."""

    def answer(self) -> Message:
        """Releases with noise; nothing is withheld.

        Raises:
            SchemaError: The rules of another mode.
            PrivacyCostError: It would cost more than was debited.
        """
        released = dp.release(self.results, DpRules.from_json(self.rules))
        return {
            "type": "released",
            "results": [{"rows": wire.encode_rows(rows)} for rows in released],
            "withheld_groups": 0,
            "withheld_values": 0,
            "conflicts": 0,
            "delta_digest": None,
            "explain": [],
        }


def work(channel: Channel) -> None:
    """Serves one release."""
    landlock.restrict(CODE)
    seal()
    channel.send({"type": "ready"})
    channel.send(NoisyRelease(channel).answer())


def rehearse() -> None:
    """Loads what loads lazily: nothing that the imports leave."""


def warm_up() -> None:
    """Touches what a release will, before it is known."""
    memory.touch_heap()


def main() -> None:
    """Entry point."""
    run(work)
