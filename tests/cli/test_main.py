"""What every command does alike, and the scripts that run them."""

import os
import signal
import subprocess
import sys

import pytest

import golem_ray
from golem_ray import cli
from golem_ray.cli import commands
from golem_ray.errors import DataError
from tests import warm
from tests.conftest import ROOT


@pytest.fixture
def command(monkeypatch):
    """Makes the command `train` do something else."""
    return lambda work: monkeypatch.setitem(commands.COMMANDS, "train", work)


def test_lines_are_printed_as_they_come(command, capsys):
    printed = []

    def work(argv):
        yield f"first of {argv}"
        printed.append(capsys.readouterr().out)
        yield "second"

    command(work)
    assert cli.main("train", ["a"]) == 0
    assert printed == ["first of ['a']\n"]
    assert capsys.readouterr().out == "second\n"


RESUME = "stopped; a run with paths.run_dir keeps what it has embedded: go on with --resume\n"


@pytest.mark.parametrize(
    ("name", "error", "status", "words"),
    [
        ("train", DataError("files: expected clips, found none."), 2, "error: files: expected clips, found none.\n"),
        ("train", KeyboardInterrupt(), 130, RESUME),
        *((name, KeyboardInterrupt(), 130, "stopped\n") for name in ("evaluate", "predict", "compare", "push")),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_a_status(command, monkeypatch, capsys, name, error, status, words):
    def work(argv):
        raise error

    monkeypatch.setitem(commands.COMMANDS, name, work)
    assert cli.main(name, []) == status
    assert capsys.readouterr() == ("", words)


CATCHES_IT = """
    try:
        os.kill(os.getpid(), int(argv[0]))
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(60)
"""

LOSES_IT = """  # in what can raise nothing
    class Mortal:
        def __del__(self):
            os.kill(os.getpid(), int(argv[0]))
            time.sleep(60)

    Mortal()
    time.sleep(60)
"""

STUBBORN = """
import os, signal, sys, time
from golem_ray import cli
from golem_ray.cli import commands, stopping

def work(argv):%s

stopping.END_WITHIN_S = 0.2
commands.COMMANDS["train"] = work
sys.exit(cli.main("train", sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("body", [CATCHES_IT, LOSES_IT], ids=["catches", "loses"])
def test_a_command_that_does_not_end_by_itself_is_ended(number, body):
    ended = warm.run(["-c", STUBBORN % body, str(int(number))], cwd=ROOT, env=dict(os.environ), timeout=20)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", RESUME)


STOP = """
    try:
        os.kill(os.getpid(), 15)
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(0.5)
"""


@pytest.mark.parametrize(
    ("before", "end", "status", "words"),
    [
        (
            "",
            "os._exit(1)",
            1,
            "error: expected to come to an end by itself, found this process killed, or its Ray lost",
        ),
        ("", "os.kill(os.getpid(), 9)", -9, "error: expected to come to an end by itself"),
        (STOP, "os._exit(1)", 1, "stopped"),  # by a Ray that got the signal too
    ],
    ids=["ray", "killed", "stopped"],
)
def test_a_command_that_is_ended_without_a_word_has_one(before, end, status, words):
    code = (
        "import os, time; from golem_ray import cli; from golem_ray.cli import commands\n"
        f"def work(argv):{before}\n    {end}\n"
        "commands.COMMANDS['train'] = work\n"
        "cli.main('train', [])"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (status, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(words)
    assert line.endswith("; a run with paths.run_dir keeps what it has embedded: go on with --resume")


def test_a_command_runs_where_there_is_no_shell(command, monkeypatch, capsys):
    def missing(command, **options):
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(os.path, "exists", lambda path: False)
    monkeypatch.setattr(subprocess, "Popen", missing)
    command(lambda argv: ["done"])
    assert cli.main("train", []) == 0
    assert capsys.readouterr().out == "done\n"


def test_a_command_leaves_signals_as_it_found_them(monkeypatch):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setitem(commands.COMMANDS, "train", lambda argv: [])
    assert cli.main("train", []) == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_names_cannot_command_a_terminal_nor_give_credentials_away():
    """In log lines, printed lines, and the error's."""
    code = r"""
import logging, sys
from golem_ray import cli
from golem_ray.cli import commands
from golem_ray.errors import DataError

def work(argv):
    logging.getLogger("golem_ray.data").warning("bad: %s", "a\x1b[31m\nb http://u:PW@host/x?sig=PW")
    yield "two lines\nof \u202ewav caf\xe9 \udce9"
    raise DataError("files: expected clips, found \x1b[31m\nb.")

commands.COMMANDS["train"] = work
sys.exit(cli.main("train", []))
"""
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "two lines\nof \\u202ewav caf\\xe9 \\udce9\n")
    first, second = done.stderr.splitlines()
    assert first == r"bad: a\x1b[31m\nb http://host/x"
    assert second == r"error: files: expected clips, found \x1b[31m\nb."


def test_a_bug_is_a_traceback(command):
    command(lambda argv: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main("train", [])


def test_a_reader_that_stops_reading_is_no_error(tmp_path):
    code = (
        "import sys; from golem_ray import cli; from golem_ray.cli import commands\n"
        "commands.COMMANDS['train'] = lambda argv: map(str, range(10**6))\n"
        "sys.exit(cli.main('train', []))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (0, "")


@pytest.mark.parametrize("name", sorted(commands.COMMANDS))
def test_help_of_each_script_needs_neither_ray_nor_pytorch(name, tmp_path):
    for module in ("ray", "torch", "transformers", "datasets"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('imported')")
    done = subprocess.run(
        [sys.executable, str(ROOT / "jobs" / f"{name}.py"), "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"usage: golem-ray {name}" in done.stdout


def test_there_is_a_script_for_each_command():
    assert sorted(path.stem for path in (ROOT / "jobs").glob("*.py")) == sorted(commands.COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "status", "out", "error"),
    [
        (["--version"], 0, f"golem-ray {golem_ray.__version__}\n", ""),
        (["trian"], 2, "", "error: trian: expected a command (COMMANDS); did you mean train?\n"),
        (["xyz"], 2, "", "error: xyz: expected a command (COMMANDS); golem-ray --help says what each does.\n"),
        (
            ["push", "v.pth"],
            2,
            "",
            "error: push: expected an artifact and a repository, found only one; for example "
            "`golem-ray push v.pth user/v`.\n",
        ),
        (
            ["train", "--training.epoch", "3"],
            2,
            "",
            "error: --training.epoch: expected a flag of this command, found "
            "none of that name; did you mean --training.epochs?\n",
        ),
    ],
)
def test_one_command_runs_all_others(monkeypatch, capsys, arguments, status, out, error):
    monkeypatch.setattr(sys, "argv", ["golem-ray", *arguments])
    assert cli.golem_ray() == status
    assert capsys.readouterr() == (out, error.replace("COMMANDS", ", ".join(commands.COMMANDS)))


def test_without_a_command_it_says_which_there_are(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["golem-ray"])
    assert cli.golem_ray() == 0
    said = capsys.readouterr().out
    for name, run in commands.COMMANDS.items():
        assert f"  {name} " in said
        assert run.__doc__.partition(":")[0] in said
