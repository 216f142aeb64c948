"""The wall as a worker closes it around itself, before it reads anything that others wrote.

`kernel` names the system calls, `namespaces` makes a forked worker's own world, `seccomp` and
`landlock` close what is left of it, `seal` does so in order.
"""
