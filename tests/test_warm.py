import os
import signal
import threading

import pytest

from tests import warm
from tests.conftest import ROOT


@pytest.mark.slow  # two of them start anew
def test_a_process_that_is_not_waited_for_does_not_answer_the_next(tmp_path):
    def run(code, **more):
        return warm.run(["-c", code], cwd=ROOT, env=dict(os.environ), **more)

    assert run("print(1)").stdout == "1\n"
    mark = tmp_path / "late"
    main = threading.main_thread().ident
    assert main is not None
    ended = threading.Timer(1.0, signal.pthread_kill, (main, signal.SIGINT))
    ended.start()
    with pytest.raises(KeyboardInterrupt):
        run(f"import time, pathlib; time.sleep(2); pathlib.Path({str(mark)!r}).touch()")
    assert run("import time; time.sleep(2); print(2)").stdout == "2\n"
    assert not mark.exists()
