"""A Python that has torch, fairseq and the plugin imported already: a process for each command without those seconds.

`start(folder)` starts a server and writes `folder/python` (and `fairseq-train` and its kin beside it), which take the
words, the environment, the working directory and the three streams of whoever calls them to the server; that forks,
and the child runs the command as Python would. What the scripts call when PYTHON names it are therefore processes of
their own, from the same files and with the same words; a signal to the caller reaches them, and they are killed with
it. Nothing in the server computes, so that forking is safe.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

CONSOLE = {f"fairseq-{name}": f"fairseq_cli.{name}" for name in ("train", "generate", "preprocess")}
CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
job = {{"words": [os.path.basename(sys.argv[0]), *sys.argv[1:]], "cwd": os.getcwd(), "env": dict(os.environ)}}
socket.send_fds(server, [b"!"], [0, 1, 2])
server.sendall(json.dumps(job).encode() + b"\\n")
child = int.from_bytes(server.recv(4), "big")
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, frame: os.kill(child, number))
status = server.recv(1)
os._exit(status[0] if status else 1)
"""


@contextlib.contextmanager
def start(folder: Path) -> Iterator[Path]:
    """The path of the warm `python`, while the context lasts."""
    address = folder / "socket"
    for name in ("python", *CONSOLE):
        (folder / name).write_text(CLIENT.format(python=sys.executable, address=str(address)), encoding="utf-8")
        (folder / name).chmod(0o755)
    (folder / "torchrun").symlink_to(Path(sys.executable).parent / "torchrun")
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}
    with subprocess.Popen([sys.executable, __file__, str(address)], env=environment) as server:
        while not address.exists():
            assert server.poll() is None, "the server ended"
            time.sleep(0.05)
        try:
            yield folder / "python"
        finally:
            server.terminate()


def serve(address: Path) -> None:
    """Waits for commands until it is ended."""
    import fairseq.trainer
    import sacrebleu
    import torch._dynamo  # by the first optimizer of a process: two seconds

    import rdrop_fairseq

    assert all((fairseq, sacrebleu, torch._dynamo, rdrop_fairseq))  # imported for those who come later
    logging.root.handlers.clear()  # fairseq's programs set their own, which they do before they import fairseq
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(f"{address}.new")
        door.listen(16)
        os.rename(f"{address}.new", address)
        while True:
            client, _ = door.accept()
            if os.fork() == 0:
                door.close()
                answer(client, address.parent)
            client.close()


def answer(client: socket.socket, folder: Path) -> NoReturn:
    """In a process of its own: runs the command in another one and sends its status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, streams, _, _ = socket.recv_fds(client, 1, 3)
    with client.makefile("rb") as words:
        job = json.loads(words.readline())
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        client.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        become(job, folder)
    for stream in streams:
        os.close(stream)
    client.sendall(child.to_bytes(4, "big"))
    ended = os.pidfd_open(child)
    if ended not in select.select([client, ended], [], [])[0]:
        os.killpg(child, signal.SIGKILL)  # the caller was killed, and what a process starts is killed with its group
        os._exit(1)
    client.sendall(bytes([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) % 256]))
    os._exit(0)


def become(job: dict[str, Any], folder: Path) -> NoReturn:
    """What a fresh Python would do with these words."""
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    sys.executable = str(folder / "python")  # what it starts, or becomes, is a process of the server as well
    leave(run(job["words"]))


def run(words: list[str]) -> int:
    """Runs the words in this process; returns the status."""
    name, *rest = words
    rest = rest[1:] if rest[:1] == ["-u"] else rest  # as torchrun starts its processes
    module = CONSOLE.get(name) or (rest[1] if rest[:1] == ["-m"] else "")
    if name in CONSOLE and "--user-dir" in rest and os.path.abspath(rest[rest.index("--user-dir") + 1]) != PLUGIN:
        os.execve(Path(REAL).parent / name, [name, *rest], os.environ)  # fairseq takes a plugin from one place only
    script = rest[0] if rest and rest[0].endswith(".py") else ""
    if not script and not module.startswith(("rdrop_fairseq", "fairseq_cli", "torch.distributed.run")):
        os.execve(REAL, [REAL, *rest], os.environ)
    sys.argv = rest if script else [module, *(rest if name in CONSOLE else rest[2:])]
    try:
        if script:
            sys.path[:0] = [os.path.dirname(script), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
            runpy.run_path(script, run_name="__main__")
        elif name in CONSOLE:
            __import__(module)
            sys.modules[module].cli_main()
        else:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return int(end.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        return 1
    return 0


def leave(status: int) -> NoReturn:
    """Ends the process as Python does at its end, but for what the server would do at its own."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


REAL = sys.executable
PLUGIN = str(Path(__file__).parents[2] / "rdrop_fairseq")

if __name__ == "__main__":
    serve(Path(sys.argv[1]))
