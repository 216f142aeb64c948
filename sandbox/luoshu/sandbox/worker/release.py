"""tmp."""
from luoshu.sandbox.worker.stage import Channel, run
def work(channel: Channel) -> None:
    channel.send({"type": "ready"})
    print(channel.receive())
def main() -> None:
    run(work)
