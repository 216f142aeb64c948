"""The wall: single-use worker processes that can reach nothing but their job.

Here live the port (`port`), its bubblewrap adapter (`bwrap`), the small process
that launches workers (`launcher`, `launcher_client`), what a worker may see of
the host (`runtime`, `probe`) and the findings for `luoshu doctor` (`check`).
Nothing here knows SQL, products or release rules.
"""
