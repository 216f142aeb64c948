"""What a taken-over worker may ask the kernel: each call of these fails, whatever its arguments.

Numbers are those of x86-64; the filter itself is looked at for both machines in
`tests/unit/test_seccomp.py`.
"""

from __future__ import annotations

import platform

import pytest
from escape_world import Prison

from luoshu.sandbox.isolation.port import WorkerError

pytestmark = pytest.mark.system

# name: number, arguments
CALLS: dict[str, tuple[int, ...]] = {
    # the network, and other ways to talk
    "socket_inet": (41, 2, 1, 0),
    "socket_inet6": (41, 10, 1, 0),
    "socket_unix": (41, 1, 1, 0),
    "socket_netlink": (41, 16, 3, 0),
    "socket_packet": (41, 17, 3, 0),
    "socket_raw": (41, 2, 3, 1),
    "socket_vsock": (41, 40, 1, 0),
    "socketpair": (53, 1, 1, 0, 0),
    "connect": (42, 0, 0, 0),
    "bind": (49, 0, 0, 0),
    "listen": (50, 0, 1),
    "accept": (43, 0, 0, 0),
    "accept4": (288, 0, 0, 0, 0),
    "sendto": (44, 0, 0, 0, 0, 0, 0),
    "sendmsg_with_descriptors": (46, 0, 0, 0),
    "sendmmsg": (307, 0, 0, 0, 0),
    "shmget": (29, 0, 4096, 0o1600),
    "msgget": (68, 0, 0o1600),
    "semget": (64, 0, 1, 0o1600),
    "mq_open": (240, 0, 0, 0, 0),
    "pipe2": (293, 0, 0),
    "memfd_create": (319, 0, 0),
    "memfd_secret": (447, 0),
    # processes
    "fork": (57,),
    "vfork": (58,),
    "clone_a_thread": (56, 0x003D_0F00, 0, 0, 0, 0),
    "clone_a_process": (56, 17, 0, 0, 0, 0),
    "clone_into_a_user_namespace": (56, 0x1000_0011, 0, 0, 0, 0),
    "clone_a_thread_into_namespaces": (56, 0x1001_0F00, 0, 0, 0, 0),
    "execve": (59, 0, 0, 0),
    "execveat": (322, 0, 0, 0, 0, 0),
    "kill_all": (62, (1 << 64) - 1, 9),
    "kill_first": (62, 1, 9),
    "tkill": (200, 1, 9),
    "tgkill_another_process": (234, 2, 2, 9),
    "rt_sigqueueinfo": (129, 1, 9, 0),
    "pidfd_open": (434, 1, 0),
    "pidfd_getfd": (438, 0, 0, 0),
    "pidfd_send_signal": (424, 0, 9, 0, 0),
    "ptrace_attach": (101, 16, 1, 0, 0),
    "process_vm_readv": (310, 1, 0, 0, 0, 0, 0),
    "process_vm_writev": (311, 1, 0, 0, 0, 0, 0),
    "process_madvise": (440, 0, 0, 0, 0, 0),
    "kcmp": (312, 1, 1, 0, 0, 0),
    "setsid": (112,),
    "setpgid": (109, 0, 0),
    "setpriority": (141, 0, 0, -5 & 0xFFFFFFFF),
    "sched_setscheduler": (144, 0, 1, 0),
    "sched_setaffinity": (203, 0, 0, 0),
    # namespaces, mounts, users
    "unshare_user": (272, 0x1000_0000),
    "unshare_mounts": (272, 0x0002_0000),
    "setns": (308, 0, 0),
    "mount": (165, 0, 0, 0, 0, 0),
    "umount2": (166, 0, 2),
    "pivot_root": (155, 0, 0),
    "chroot": (161, 0),
    "chdir": (80, 0),
    "fchdir": (81, 0),
    "open_tree": (428, 0, 0, 1),
    "move_mount": (429, 0, 0, 0, 0, 0),
    "fsopen": (430, 0, 0),
    "mount_setattr": (442, 0, 0, 0, 0, 0),
    "setuid_root": (105, 0),
    "setresuid_root": (117, 0, 0, 0),
    "setgroups": (116, 0, 0),
    "capset": (126, 0, 0),
    "prctl_dumpable": (157, 4, 1, 0, 0, 0),
    "prctl_keep_capabilities": (157, 8, 1, 0, 0, 0),
    "personality": (135, 0x0040000),
    "setrlimit": (160, 7, 0),
    # the kernel's large interfaces
    "bpf": (321, 0, 0, 0),
    "perf_event_open": (298, 0, 0, 0, 0, 0),
    "keyctl": (250, 0, 0, 0, 0, 0),
    "add_key": (248, 0, 0, 0, 0, 0),
    "request_key": (249, 0, 0, 0, 0),
    "io_uring_setup": (425, 1, 0),
    "io_setup": (206, 1, 0),
    "userfaultfd": (323, 0),
    "modify_ldt": (154, 0, 0, 0),
    "iopl": (172, 3),
    "ioperm": (173, 0, 1, 1),
    "kexec_load": (246, 0, 0, 0, 0),
    "kexec_file_load": (320, 0, 0, 0, 0, 0),
    "init_module": (175, 0, 0, 0),
    "finit_module": (313, 0, 0, 0),
    "delete_module": (176, 0, 0),
    "reboot": (169, 0xFEE1DEAD, 672274793, 0x1234567, 0),
    "clock_settime": (227, 0, 0),
    "settimeofday": (164, 0, 0),
    "adjtimex": (159, 0),
    "sethostname": (170, 0, 0),
    "syslog": (103, 3, 0, 0),
    "swapon": (167, 0, 0),
    "acct": (163, 0),
    "quotactl": (179, 0, 0, 0, 0),
    "lookup_dcookie": (212, 0, 0, 0),
    "fanotify_init": (300, 0, 0),
    "inotify_init1": (294, 0),
    "seccomp_listener": (317, 1, 8, 0),
    "uselib": (134, 0),
    "vhangup": (153,),
    "ioctl_tiocsti": (16, 0, 0x5412, 0),
    # files: changing them, or reaching them by another way
    "creat": (85, 0, 0o600),
    "openat2": (437, 0, 0, 0, 0),
    "open_old": (2, 0, 0, 0),
    "truncate": (76, 0, 0),
    "ftruncate": (77, 0, 0),
    "fallocate": (285, 0, 0, 0, 0),
    "chmod": (90, 0, 0o777),
    "fchmod": (91, 0, 0o777),
    "fchown": (93, 0, 0, 0),
    "utimensat": (280, 0, 0, 0, 0),
    "setxattr": (188, 0, 0, 0, 0, 0),
    "fsetxattr": (190, 0, 0, 0, 0, 0),
    "link": (86, 0, 0),
    "linkat_open_file": (265, 0, 0, 0, 0, 0x1000),
    "symlink": (88, 0, 0),
    "rename": (82, 0, 0),
    "unlink": (87, 0),
    "mkdir": (83, 0, 0o700),
    "mknod_disk": (133, 0, 0o60600, 0x800),
    "readlink": (89, 0, 0, 0),
    "name_to_handle_at": (303, 0, 0, 0, 0, 0),
    "open_by_handle_at": (304, 0, 0, 0),
    "sendfile": (40, 1, 0, 0, 1),
    "splice": (275, 0, 0, 1, 0, 1, 0),
    "vmsplice": (278, 1, 0, 0, 0),
    "copy_file_range": (326, 0, 0, 1, 0, 1, 0),
    "pkey_mprotect": (329, 0, 0, 0, 0),
    "remap_file_pages": (216, 0, 0, 0, 0, 0),
    "mlockall": (151, 3),
}


@pytest.mark.parametrize("name", CALLS)
async def test_call_is_refused(prison: Prison, name: str) -> None:
    assert platform.machine() == "x86_64", "the numbers here are of x86-64"
    if not prison.answers:
        await _ask_all(prison)
    assert prison.answers.get(name) == ["failed", "EPERM"]


async def _ask_all(prison: Prison) -> None:
    """Has one worker make every call; what one that gets through does to it, the rest shows."""
    payload = f"""
        for name, numbers in {CALLS}.items():
            tell([name, attempt(lambda: call(*numbers))])
    """
    worker = await prison.hold(payload)
    try:
        for _ in CALLS:
            name, said = (await worker.receive())["said"]
            prison.answers[name] = said
    except WorkerError:
        pass
    finally:
        await worker.stop()


async def test_clone3_is_answered_as_if_it_did_not_exist(prison: Prison) -> None:
    assert await prison.run("tell(attempt(lambda: call(435, 0, 0)))") == ["failed", "ENOSYS"]


@pytest.mark.parametrize("number", [600, 1000, 0x3FFF_FFFF])
async def test_call_that_this_kernel_may_not_even_have(prison: Prison, number: int) -> None:
    assert await prison.run(f"tell(attempt(lambda: call({number})))") == ["failed", "EPERM"]


async def test_call_of_the_x32_interface_kills(prison: Prison) -> None:
    worker = await prison.hold("call(0x40000000 + 39)")
    end = await worker.wait()
    assert end.status == "signal SIGSYS"


@pytest.mark.parametrize(
    "action",
    [
        "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)",
        "call(10, ctypes.addressof(ctypes.create_string_buffer(8192)) & ~4095, 4096, 7)",
    ],
)
async def test_memory_never_becomes_executable(prison: Prison, action: str) -> None:
    assert (await prison.run(f"tell(attempt(lambda: {action}))"))[0] == "failed"


async def test_a_thread_is_filtered_like_the_one_that_was_sealed(prison: Prison) -> None:
    payload = """
        said = []
        sealed = threading.Event()
        def wait():
            sealed.wait()
            said.extend(attempt(lambda: call(*numbers)) for numbers in [(41, 2, 1, 0), (101, 0)])
        thread = threading.Thread(target=wait)
        thread.start()
        seal.seal()
        sealed.set()
        thread.join()
        tell(said)
    """
    assert await prison.run(payload, is_sealed=False) == [["failed", "EPERM"]] * 2


async def test_limits_can_be_read_and_not_set(prison: Prison) -> None:
    payload = """
        tell([
            resource.getrlimit(resource.RLIMIT_AS)[0] > 0,
            attempt(lambda: call(302, 0, 4, ctypes.addressof(ctypes.create_string_buffer(16)), 0)),
        ])
    """
    assert await prison.run(payload) == [True, ["failed", "EPERM"]]
