"""Python processes as a user starts them, without the seconds that importing PyTorch takes.

Each is forked from a process that has imported the heavy libraries, and nothing that reads the environment when it is
imported (huggingface_hub, Ray), nor anything of ours. It has its own arguments, environment, folder and streams.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any

PRELOADED = (
    *("torch", "torch._dynamo", "torchaudio", "soundfile", "pyarrow.parquet", "pandas"),
    *("sklearn.linear_model", "sklearn.metrics", "scipy.stats", "fsspec", "yaml", "plotly.graph_objects"),
)

_server: list[subprocess.Popen[str]] = []


def run(
    arguments: list[str], *, env: dict[str, str], cwd: Path, input: str | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """What `python *arguments` does and says: as subprocess.run with captured text. `-c CODE` or a script comes first.

    Raises subprocess.TimeoutExpired, the process having been killed.
    """
    if not _server or _server[0].poll() is not None:
        command, pipe = [sys.executable, __file__], subprocess.PIPE
        _server[:] = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)]
    stdin, stdout = _server[0].stdin, _server[0].stdout
    assert stdin is not None
    assert stdout is not None
    with tempfile.TemporaryDirectory() as name:
        files = {stream: str(Path(name) / stream) for stream in ("stdin", "stdout", "stderr")}
        Path(files["stdin"]).write_text(input or "")
        task = {"arguments": arguments, "env": env, "cwd": str(cwd), "files": files, "timeout": timeout}
        print(json.dumps(task), file=stdin, flush=True)
        try:
            status = json.loads(stdout.readline())
        except BaseException:  # a test that took too long: the answer to it would be taken for the next one's
            os.killpg(_server.pop().pid, signal.SIGKILL)
            raise
        said = [Path(files[stream]).read_text() for stream in ("stdout", "stderr")]
    if status is None:
        raise subprocess.TimeoutExpired(arguments, timeout, *said)
    return subprocess.CompletedProcess(arguments, status, *said)


def _serve() -> dict[str, Any]:
    """Forks a process for each task, and tells its exit status; returns the task in that process."""
    for name in PRELOADED:
        importlib.import_module(name)
    assert threading.active_count() == 1
    early = [name for name in sys.modules if name.split(".")[0] in ("huggingface_hub", "ray", "golem_ray")]
    assert not early, early
    gc.freeze()  # pages that no collection touches stay shared
    for line in sys.stdin:
        task: dict[str, Any] = json.loads(line)
        child = os.fork()
        if not child:
            return task
        print(json.dumps(_status(child, task["timeout"])), flush=True)
    sys.exit()


def _status(child: int, timeout: float) -> int | None:
    """The child's exit status, negative for a signal; None if it had to be killed."""
    late: list[bool] = []

    def kill(number: int, frame: object) -> None:
        late.append(True)
        os.kill(child, signal.SIGKILL)

    signal.signal(signal.SIGALRM, kill)
    signal.setitimer(signal.ITIMER_REAL, timeout)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.setitimer(signal.ITIMER_REAL, 0)
    return None if late else status


def _become(task: dict[str, Any]) -> None:
    """Be the process that the task describes."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for number, (stream, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        with open(task["files"][stream], mode) as file:
            os.dup2(file.fileno(), number)
    sys.stdin = os.fdopen(0)  # what the server had read ahead goes
    os.environ.clear()
    os.environ.update(task["env"])
    os.chdir(task["cwd"])
    first, *rest = task["arguments"]
    sys.path[:1] = ["" if first == "-c" else str(Path(first).parent)]
    sys.path[1:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    if first == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = [first, *rest]
        runpy.run_path(first, run_name="__main__")


def _end(task: dict[str, Any]) -> None:
    """As Python ends, but for the second in which it takes down what was imported."""
    status: object = 0
    try:
        _become(task)
    except SystemExit as end:
        status = end.code or 0
        if not isinstance(status, int):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)


if __name__ == "__main__":
    _end(_serve())
