"""The `luoshu` command: a thin layer over the SDK and the connector.

One module per command group; each command reads its arguments, calls, prints.
No rule of the data space lives here. Heavy imports happen inside commands, so
that `luoshu --help` answers at once.
"""
