"""`featureline lineage verify|checkpoint|prove|salvage|rebuild|watch`, as one would use them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import lineage
from featureline.cli.main import cli
from featurestore.erasure.signing import SigningKey
from featurestore.errors import InvalidRequest
from lineage import InvalidProof, artifact, as_draft, trial_component


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    with lineage.open_home(home) as graph:
        data = artifact("DataSet", "s3://b/flights", content_hash="51b2")
        job = trial_component("TrainingJob", "j", state="Completed")
        graph.record([data], kind="Loaded", actor="ann")
        graph.record([job], [(data, job, "ContributedTo")], kind="JobCompleted", actor="ann")
        graph.record_all(
            [
                as_draft([artifact("D", f"uri/{n}", properties={"x": "y" * 500})], kind="T")
                for n in range(100)
            ]
        )
    return home


def run(*arguments: object, home: Path | None = None) -> Any:
    given = [*map(str, arguments), *(["--home", str(home)] if home else [])]
    return CliRunner().invoke(cli, ["lineage", *given], catch_exceptions=False)


def test_a_checkpoint_is_kept_signed_and_compared(home: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    SigningKey(keys)
    kept = tmp_path / "kept.json"
    made = run("checkpoint", "--sign", keys / "erasure.key", "--out", kept, home=home)
    assert "event 102: root" in made.output
    assert "signed" in made.output
    public = keys / "erasure.pub"
    good = run("verify", "--against", kept, "--public-key", public, home=home)
    assert good.output.startswith("intact: 102 events")
    assert good.exit_code == 0
    several = json.loads(run("checkpoint", "--all", "--json", home=home).output)
    assert [one["sequence"] for one in several] == [102]
    document = json.loads(kept.read_text())
    kept.write_text(json.dumps({**document, "root": "00" * 32}))
    with pytest.raises(InvalidProof, match="altered"):
        run("verify", "--against", kept, "--public-key", public, home=home)
    bad = run("verify", "--against", kept, "--json", home=home)
    assert (bad.exit_code, json.loads(bad.output)["intact"]) == (1, False)
    assert run("verify", "--public-key", public, home=home).exit_code == 2


def test_a_proof_of_an_artifact_and_of_an_event(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "proof.json"
    said = run("prove", "flights", "--out", out, home=home).output
    assert "by ann" in said
    assert "Loaded, event 1, belongs to the root" in said
    lineage.Proof.from_json(json.loads(out.read_text())).check()
    assert "event 2: recorded" in run("prove", "2", "--event", home=home).output
    assert run("prove", "two", "--event", home=home).exit_code == 2
    # A proof names its checkpoint, so that others can be made against the same.
    again = run("prove", "flights", "--checkpoint", out, "--json", home=home)
    assert json.loads(again.output) == json.loads(out.read_text())


def test_a_damaged_file_is_named_and_saved(home: Path, tmp_path: Path) -> None:
    file, out = home / "lineage.db", tmp_path / "saved.db"
    os.truncate(file, file.stat().st_size // 2)
    said = run("verify", home=home)
    assert said.exit_code == 1
    assert "DAMAGED" in said.output
    assert "is cut off" in said.output
    assert "salvage --out FILE" in said.output
    saved = json.loads(run("salvage", "--out", out, "--json", home=home).output)
    assert saved["events"] + saved["lost"] == 102
    assert saved["events"] == saved["damage"]["whole"] > 0
    out.replace(file)
    for name in ("lineage.db-wal", "lineage.db-shm"):
        (home / name).unlink(missing_ok=True)
    assert run("verify", "--projections", home=home).exit_code == 0
    assert f"of {saved['events']} events" in run("rebuild", home=home).output


def test_a_home_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no such folder"):
        run("verify", home=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_watching_from_the_beginning(home: Path) -> None:
    told = run("watch", "flights", "--after", "0", "--count", "2", home=home).output
    assert [line.split()[0] for line in told.splitlines()] == ["1", "2"]
    assert "JobCompleted: +TrainingJob j (Completed)" in told
    only = run(
        "watch", "flights", "--after", "0", "--count", "1", "--type", "TrainingJob", "--json",
        home=home,
    )  # fmt: skip
    assert [one["name"] for one in json.loads(only.output)["reached"]] == ["j"]
