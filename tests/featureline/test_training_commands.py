"""`featureline train` with a script, and what `featureline jobs` tells of it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console

from featureline.cli import jobprogress
from featureline.cli.jobprogress import job_progress
from tests.inprocess import Ended, run_command
from training import Progress, SecondaryStatus

SCRIPT = """\
import argparse, os
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int)
parser.add_argument("--train", default=os.environ["SM_CHANNEL_TRAIN"])
args = parser.parse_args()
for epoch in range(args.epochs):
    print(f"epoch={epoch} loss={1 / (1 + epoch)}")
print(os.environ["STAGE"], *os.listdir(args.train))
with open(os.path.join(os.environ["SM_MODEL_DIR"], "weights"), "w") as file:
    file.write("1")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("training")
    (made / "train.py").write_text(SCRIPT)
    (made / "rows.csv").write_text("1,2\n")
    return made


def command(folder: Path, *arguments: object) -> Ended:
    return run_command(*arguments, "--home", folder / "home")


@pytest.fixture(scope="module")
def trained(folder: Path) -> Ended:
    return command(
        folder,
        *("train", "--script", folder / "train.py", "--channel", f"train={folder / 'rows.csv'}"),
        *("--set", "epochs=3", "--metric", r"loss=loss=(\S+)", "--env", "STAGE=here"),
        *("--job", "script-1", "--threads", 1, "--device", "cpu", "--retries", 1, "--json"),
    )


def test_a_script_is_trained_and_its_job_told_of(folder: Path, trained: Ended) -> None:
    assert trained.returncode == 0, trained.stderr
    body = json.loads(trained.stdout)
    assert (body["job"], body["status"]) == ("script-1", "Completed")
    assert body["metrics"] == {"loss": pytest.approx(1 / 3)}
    assert (Path(body["model"]) / "weights").read_text() == "1"
    assert "script-1: Downloading" in trained.stderr
    assert "script-1: Training" in trained.stderr
    described = json.loads(command(folder, "jobs", "describe", "script-1", "--json").stdout)
    assert described["RetryStrategy"] == {"MaximumRetryAttempts": 1}
    assert described["HyperParameters"]["sagemaker_program"] == "train.py"


def test_its_log_and_its_metrics(folder: Path, trained: Ended) -> None:
    log = command(folder, "jobs", "logs", "-f", "script-1").stdout.splitlines()
    assert log == ["epoch=0 loss=1.0", "epoch=1 loss=0.5", log[2], "here rows.csv"]
    rows = json.loads(command(folder, "jobs", "metrics", "script-1", "--json").stdout)
    assert [(row["epoch"], row["step"]) for row in rows] == [(0, None), (1, None), (2, None)]
    assert rows[1]["value"] == 0.5
    shown = command(folder, "jobs", "metrics", "script-1", "--metric", "loss").stdout
    assert shown.splitlines()[0].split() == ["time", "host", "epoch", "step", "name", "value"]
    out = folder / "metrics.arrow"
    said = command(folder, "jobs", "metrics", "script-1", "--out", out).stdout
    assert said.strip() == f"3 values in {out}"
    with pa.ipc.open_file(out) as file:
        assert file.read_all()["name"].to_pylist() == ["loss"] * 3


def test_a_budget_is_set_and_shown(folder: Path) -> None:
    whole = json.loads(command(folder, "jobs", "budget", "--json").stdout)
    assert whole["cores"] >= 1
    said = command(folder, "jobs", "budget", "--cores", 3, "--json")
    assert json.loads(said.stdout) == whole | {"cores": 3}
    assert command(folder, "jobs", "budget").stdout.splitlines()[0].split() == ["cores", "3"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("train",), "name an ALGORITHM (--list shows them) or a --script"),
        (("train", "xgboost", "--script", "x.py"), "name an ALGORITHM"),
        (("train", "xgboost", "--source", "x"), "--source goes with --script"),
        (("train", "xgboost", "--metric", "x"), "--metric: expected NAME=VALUE, got 'x'"),
        (("jobs", "budget", "--cores", "0"), "0 is not in the range x>=1"),
    ],
)
def test_a_wrong_use_is_refused(folder: Path, arguments: tuple[str, ...], expected: str) -> None:
    ended = command(folder, *arguments)
    assert ended.returncode == 2
    assert expected in ended.stderr


def test_a_script_that_is_not_there_is_refused(folder: Path) -> None:
    ended = command(folder, "train", "--script", folder / "no.py", "--channel", "train=x")
    assert ended.returncode == 1
    assert "no.py' does not exist" in ended.stderr


# -- how far it is ----------------------------------------------------------------------------


def seen(done: int, *, status: SecondaryStatus = SecondaryStatus.TRAINING) -> Progress:
    return Progress(job="j", status=status, done=done, total=100, metrics={"auc": 0.75})


def test_plain_lines_say_status_steps_metric_and_time_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [0.0]
    lines = jobprogress._Lines("j", lambda: now[0])
    lines(Progress(job="j", status=SecondaryStatus.PENDING))
    for second in range(25):
        now[0] = float(second)
        lines(seen(1 + second))
    lines(seen(100, status=SecondaryStatus.COMPLETED))
    assert capsys.readouterr().err.splitlines() == [
        "j: Pending",
        "j: Training, 1 of 100 steps, auc=0.75",
        "j: Training, 11 of 100 steps, auc=0.75, 0:01:29 left",
        "j: Training, 21 of 100 steps, auc=0.75, 0:01:19 left",
    ]


def test_a_terminal_shows_a_bar_with_the_last_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=120, color_system=None)
    monkeypatch.setattr(jobprogress, "console", terminal)
    with job_progress("flights-1") as show:
        show(seen(50))
    text = screen.getvalue()
    assert "flights-1 Training" in text
    assert "50%" in text
    assert "auc=0.75" in text


def test_the_list_says_what_each_algorithm_is(folder: Path) -> None:
    lines = command(folder, "train", "--list").stdout.splitlines()
    assert any(line.startswith("xgboost") and "Boosted trees" in line for line in lines)
    assert all(len(line.split(None, 1)) == 2 for line in lines)


def test_help_beside_an_algorithm_tells_of_its_hyperparameters() -> None:
    ended = run_command("train", "kmeans", "--help")
    assert ended.returncode == 0
    for words in (
        "Clusters around k centres",
        "epochs",
        "[default: 5000]",
        "test:msd",
        "[required]",
    ):
        assert words in ended.stdout
    assert "--channel" in run_command("train", "--help").stdout


def test_a_dataset_is_the_train_channel(folder: Path) -> None:
    ended = command(
        folder,
        *("train", "kmeans", "--dataset", f"{folder / 'rows.csv'},content_type=text/csv"),
        *("--set", "k=2", "--set", "feature_dim=1", "--json"),
    )
    # One row cannot make two clusters: the dataset was read, and that is said.
    assert ended.returncode == 1
    assert "train" in ended.stderr
