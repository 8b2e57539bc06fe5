"""Why a process failed, in one paragraph."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.jobs.failure import explain, oom_kills

TRACEBACK = """\
epoch=1
Traceback (most recent call last):
  File "/x/code/train.py", line 30, in <module>
    main()
  File "/x/code/train.py", line 12, in main
    fit()
  File "/x/site-packages/numpy/core.py", line 99, in load
    raise error
{error}
"""


@pytest.mark.parametrize(
    ("status", "log", "expected"),
    [
        (
            1,
            TRACEBACK.format(error="ValueError: shapes differ."),
            "ValueError: shapes differ. (train.py, line 12, in main); the job's process ended with "
            "exit status 1",
        ),
        (
            1,
            TRACEBACK.format(error="shop.NoRows: none of\n  the shops\nhas rows\nbye"),
            "shop.NoRows: none of the shops has rows (train.py, line 12, in main); the job's",
        ),
        (
            1,
            '  File "/x/code/train.py", line 1\n    def x(:\nSyntaxError: invalid syntax',
            "SyntaxError: invalid syntax (train.py, line 1); the job's process ended with exit",
        ),
        (
            1,
            TRACEBACK.format(error="KeyError: 'SM_CHANNEL_TEST'"),
            "KeyError: 'SM_CHANNEL_TEST' (train.py, line 12, in main); the job's process ended "
            "with exit status 1; give the job the channel that this variable names",
        ),
        (
            1,
            TRACEBACK.format(
                error="FileNotFoundError: [Errno 2] No such file or directory: '/opt/ml/model/x'"
            ),
            "FileNotFoundError: [Errno 2] No such file or directory: '/opt/ml/model/x' (train.py, "
            "line 12, in main); the job's process ended with exit status 1; look whether the job "
            "has /opt/ml/model/x; where the system gives a process no mounts of its own (the log "
            "says so) take the folder from the SM_ variables, such as SM_MODEL_DIR and "
            "SM_CHANNEL_TRAIN",
        ),
        (
            2,
            "usage: train.py [--epochs N]\ntrain.py: error: unrecognized arguments: --epoch 3\n",
            "train.py: error: unrecognized arguments: --epoch 3; the job's process ended with exit "
            "status 2; each hyperparameter becomes an argument of the program: let it accept them, "
            "or set none that it does not know",
        ),
        (
            71,
            "ERROR: Could not find a version\nERROR: No matching distribution found for no-such==1",
            "requirements.txt could not be installed: No matching distribution found for "
            "no-such==1; install what it names beforehand, or put wheels beside it",
        ),
        (3, "done nothing\n", "the job's process ended with exit status 3; its last line: done no"),
        (-11, "", "the job's process was ended by signal SIGSEGV (11); a library crashed"),
        (
            -9,
            "epoch=1\n",
            "the job's process was ended by signal SIGKILL (9); the usual cause is that memory ran "
            "out; its last line: epoch=1",
        ),
        (0, "", "the job's process ended with exit status 0 and without a model"),
    ],
)
def test_a_reason_says_what_where_and_what_to_do(
    tmp_path: Path, status: int, log: str, expected: str
) -> None:
    assert explain(status, log.splitlines(), folder=tmp_path).startswith(expected)


def test_a_kill_for_lack_of_memory_is_named(tmp_path: Path) -> None:
    reason = explain(-9, [], folder=tmp_path, out_of_memory=True)
    assert "the system killed it because memory ran out: use less data at once" in reason
    assert oom_kills() >= 0


def test_a_full_disk_is_named_with_what_is_free(tmp_path: Path) -> None:
    error = "OSError: [Errno 28] No space left on device"
    reason = explain(1, TRACEBACK.format(error=error).splitlines(), folder=tmp_path)
    assert reason.startswith(f"the disk of {tmp_path} is full (")
    assert " GB free now): OSError: [Errno 28] No space left on device (train.py, line 1" in reason
    assert reason.endswith("make room, or give the home another disk")


def test_a_library_that_ends_the_process_on_a_full_disk_is_understood(tmp_path: Path) -> None:
    said = "  what():  [10:00:00] local_filesys.cc:37: FileStream.Write incomplete"
    reason = explain(-6, [said, "Stack trace:"], folder=tmp_path)
    assert reason.startswith(f"the disk of {tmp_path} is full (")
    assert "SIGABRT" in reason


def test_an_account_of_its_own_is_taken_as_it_is(tmp_path: Path) -> None:
    assert explain(1, ["x"], folder=tmp_path, said="too few rows") == "too few rows"
