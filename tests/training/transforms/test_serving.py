"""Models of scripts: their own functions answer predict and transform jobs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.programs import program_maker
from training import (
    Artifact,
    FitFailed,
    InvalidData,
    InvalidJob,
    ModelClientConfig,
    ModelNotFound,
    ResourceConfig,
    TransformInput,
    TransformJob,
    TransformOutput,
    TransformResult,
    run_transform,
    submit_transform,
    train,
    transform,
)
from training.formats import tfrecord
from training.transforms.serving import ServedScript

SCRIPT = """
import json, os, time

def model_fn(model_dir):
    with open(os.path.join(model_dir, "mean.json")) as file:
        return json.load(file)

def input_fn(body, content_type):
    assert content_type == "text/csv", content_type
    return [float(line) for line in body.splitlines()]

def predict_fn(data, model, context):
    assert os.path.isdir(context.system_properties["model_dir"])
    if "MEET" in os.environ:
        # Ends only when two of them are at it at once.
        open(os.path.join(os.environ["MEET"], str(os.getpid())), "w").close()
        while len(os.listdir(os.environ["MEET"])) < 2:
            time.sleep(0.01)
    return [row - model["mean"] for row in data]

def output_fn(prediction, accept):
    return "".join(json.dumps({"off": off}) + "\\n" for off in prediction), accept

if __name__ == "__main__":
    with open(os.path.join(os.environ["SM_MODEL_DIR"], "mean.json"), "w") as file:
        json.dump({"mean": 2.5}, file)
"""


def make(source: Path, out: Path, name: str = "t", **fields: object) -> TransformJob:
    return TransformJob(
        transform_job_name=name,
        model_name="s",
        transform_input=TransformInput(path=str(source)),
        transform_output=TransformOutput(path=str(out), accept="application/jsonlines"),
        transform_resources=ResourceConfig(threads=1, device="cpu"),
        **fields,
    )


def test_a_script_answers_by_its_own_functions(tmp_path: Path) -> None:
    home, meet, out = tmp_path / "home", tmp_path / "meet", tmp_path / "out"
    result = train(home, program_maker(tmp_path)(SCRIPT, "s")).check()
    assert result.model is not None
    assert {"mean.json", "code/train.py"} <= Artifact.read(result.model).files.keys()
    (tmp_path / "rows.csv").write_text("".join(f"{n}\n" for n in range(20)))
    meet.mkdir()
    job = make(
        tmp_path / "rows.csv",
        out,
        batch_strategy="SingleRecord",
        environment={"MEET": str(meet)},
    )
    # Two hosts are two processes, as MaxConcurrentTransforms=2 would be.
    job = replace(job, transform_resources=ResourceConfig(threads=1, instance_count=2))
    assert run_transform(home, job).check().records == 20
    expected = [{"off": n - 2.5} for n in range(20)]
    lines = (out / "rows.csv.out").read_text().splitlines()
    assert [json.loads(line) for line in lines] == expected
    assert len(list(meet.iterdir())) == 2

    assert transform("s", tmp_path / "rows.csv", tmp_path / "replies.jsonl", home=home) == 20
    assert (tmp_path / "replies.jsonl").read_text() == (out / "rows.csv.out").read_text()
    (tmp_path / "rows.csv").write_text("1\n2\nthree\n4\n")
    reason = run_transform(home, make(tmp_path / "rows.csv", out, "bad")).failure_reason
    assert reason == (
        "rows.csv, record 3: input_fn: ValueError: could not convert string to float: 'three' "
        "(train.py, line 10)"
    )
    # All that ran its code, and the model is what it was.
    assert Artifact.read(result.model).digest == result.digest
    with pytest.raises(InvalidJob, match="featureline serve --scripts"):
        submit_transform(home, make(tmp_path / "rows.csv", out, "no"), scripts=False)
    with pytest.raises(ModelNotFound, match="model_fn"):
        Artifact.read(result.model).load()


def served(folder: Path, text: str, name: str = "inference.py") -> ServedScript:
    (folder / "code").mkdir(exist_ok=True)
    (folder / "code" / name).write_text(text)
    return ServedScript.load(folder)


DIES = """
import os

def model_fn(model_dir):
    return None

def predict_fn(data, model):
    if data.sum() > 10:
        os.kill(os.getpid(), 9)
    return data

if __name__ == "__main__":
    open(os.path.join(os.environ["SM_MODEL_DIR"], "none"), "w").close()
"""


def test_the_record_that_kills_the_process_is_named(tmp_path: Path) -> None:
    train(tmp_path / "home", program_maker(tmp_path)(DIES, "s")).check()
    (tmp_path / "rows.csv").write_text("1,2\n3,4\n5,6\n7,8\n")
    job = make(tmp_path / "rows.csv", tmp_path / "out", batch_strategy="SingleRecord")
    reason = run_transform(tmp_path / "home", job).failure_reason
    assert reason.startswith("rows.csv, record 3: the job's process was ended by signal SIGKILL")


FALTERS = """
import os, time

def model_fn(model_dir):
    return []

def transform_fn(calls, body, content_type, accept):
    calls.append(body)
    if body == b"slow":
        try:
            time.sleep(60)
        except Exception:
            pass
    if body == b"wrong" or calls.count(body) < 3:
        raise OSError(f"call {calls.count(body)}")
    return body.decode() + "\\n"

if __name__ == "__main__":
    open(os.path.join(os.environ["SM_MODEL_DIR"], "none"), "w").close()
"""


def test_a_script_is_asked_again_and_has_its_time(tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "out"
    train(home, program_maker(tmp_path)(FALTERS, "s")).check()
    path = tmp_path / "rows.tfrecord"

    def answered(name: str, *records: bytes, **client: int) -> TransformResult:
        path.write_bytes(b"".join(map(tfrecord.framed, records)))
        job = replace(
            make(path, out, name, batch_strategy="SingleRecord"),
            transform_input=TransformInput(path=str(path), content_type=tfrecord.TFRECORDS),
            model_client_config=ModelClientConfig(**client),
        )
        return run_transform(home, job)

    assert answered("again", b"a", b"bc").check().records == 2
    assert (out / "rows.tfrecord.out").read_text() == "a\nbc\n"
    failed = answered("no", b"a", max_retries=1).failure_reason
    assert failed.startswith("rows.tfrecord, record 1: transform_fn: OSError: call 2 (train.py")
    late = answered("late", b"slow", max_retries=1, timeout_seconds=1).failure_reason
    assert late == (
        "rows.tfrecord, record 1: it was not answered within InvocationsTimeoutInSeconds=1"
    )


LOADS = "def model_fn(model_dir):\n    return lambda data: data * 2\n"


def test_what_a_script_leaves_out_has_a_default(tmp_path: Path) -> None:
    script = served(tmp_path, f"import numpy as np\n{LOADS}")
    assert script.answer(b"1,2\n3,4\n", "text/csv", "text/csv") == b"2.0,4.0\n6.0,8.0\n"
    assert script.answer(b"[1,2]", "application/json", "application/json") == b"[1,2,1,2]"
    lines = script.answer(b"1\n2\n", "application/jsonlines", "application/jsonlines")
    assert lines == b"1\n2\n1\n2\n"
    whole = served(
        tmp_path,
        "def model_fn(d):\n    return 7\n"
        "def transform_fn(model, body, content_type, accept):\n"
        "    return f'{model}{body}', accept\n",
    )
    assert whole.answer(b"x", "text/csv", "text/csv") == b"7x"


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("def predict_fn(data, model):\n    return data\n", ModelNotFound, "without model_fn"),
        (f"{LOADS}def transform_fn(): ...\ndef input_fn(): ...\n", ModelNotFound, "input_fn is"),
        (f"{LOADS}1 / 0\n", FitFailed, r"inference.py cannot be imported: .*line 3"),
        ("def model_fn(d):\n    return open(d + '/x')\n", FitFailed, "model_fn: FileNotFoundError"),
    ],
)
def test_a_script_that_cannot_serve_says_why(
    tmp_path: Path, text: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        served(tmp_path, text)


def test_an_answer_is_text_or_bytes_of_the_type_that_is_accepted(tmp_path: Path) -> None:
    script = served(tmp_path, f"{LOADS}def output_fn(p, accept):\n    return p, 'text/csv'\n")
    with pytest.raises(InvalidData, match="expected an answer of application/json, got text/csv"):
        script.answer(b"[]", "application/json", "application/json")
    script = served(tmp_path, f"{LOADS}def output_fn(p, accept):\n    return p\n")
    with pytest.raises(InvalidData, match="expected text or bytes from output_fn, got list"):
        script.answer(b"[]", "application/json", "application/json")
    served(tmp_path, LOADS, "train.py")  # inference.py goes before
    (tmp_path / "code" / "inference.py").unlink()
    with pytest.raises(ModelNotFound, match=r"model_fn is defined in other\.py and train\.py"):
        served(tmp_path, LOADS, "other.py")
