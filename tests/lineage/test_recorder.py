"""Every job runs in a recorder: what it leaves in the graph, however the job ends."""

import asyncio
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

import lineage
from lineage import (
    EntityNotFound,
    Graph,
    InvalidAssociation,
    InvalidEntity,
    Kind,
    Recorder,
    RecordingFailed,
    StoreClosed,
    action,
    artifact,
    context,
    trial,
)
from lineage.capture.environment import environment_properties
from lineage.log import Event

ROOT = Path(lineage.__file__).parents[1]

DATA = artifact("DataSet", "s3://b/data", content_hash="1", properties={"rows": 3})
MODEL = artifact("Model", "s3://b/model.tar.gz", content_hash="9")


def events(graph: Graph) -> list[Event]:
    with graph._store.log() as (log, _):
        return list(log)


def edges(graph: Graph, uid: str) -> set[tuple[str, str, str]]:
    found = graph.query(uid, "both").associations
    return {(edge.source, edge.destination, edge.type.value) for edge in found}


def fail_after(step: Callable[[], object], error: BaseException) -> NoReturn:
    step()
    raise error


class TestACompletedJob:
    def test_inputs_and_outputs_hang_on_the_job(self, graph: Graph) -> None:
        with Recorder(graph, "TrainingJob", "j") as job:
            data = job.input(DATA)
            model = job.output(MODEL)
            job.associate(data, model, "DerivedFrom")
        uid = job.entity.uid
        assert edges(graph, uid) == {
            (data.uid, uid, "ContributedTo"),
            (uid, model.uid, "Produced"),
            (data.uid, model.uid, "DerivedFrom"),
        }
        assert job.inputs == (graph.entity(data.uid),)
        assert job.outputs == (graph.entity(model.uid),)
        assert job.inputs[0].properties == {"rows": 3}

    def test_it_says_what_it_was_given_and_what_it_measured(self, graph: Graph) -> None:
        with Recorder(
            graph,
            "TrainingJob",
            "j",
            source_uri="arn:job",
            parameters={"max_depth": 6, "eta": np.float64(0.1)},
            properties={"queue": "fast"},
        ) as job:
            job.parameter("seed", 7)
            job.metric("rmse", np.float32(0.5))
            job.metric("rmse", 0.25)
            job.property("note", ["a", {"b": None}])
        stored = graph.entity(job.entity.uid)
        assert stored == job.entity
        assert stored.kind is Kind.TRIAL_COMPONENT
        assert stored.state == "Completed"
        assert stored.source_uri == "arn:job"
        properties = stored.properties
        assert properties["parameters"] == {"max_depth": 6, "eta": 0.1, "seed": 7}
        assert properties["metrics"] == {"rmse": 0.25}
        assert properties["queue"] == "fast"
        assert properties["note"] == ["a", {"b": None}]
        assert "failure_reason" not in properties

    def test_steps_are_summed_up(self, graph: Graph) -> None:
        with Recorder(graph, "TrainingJob", "j") as job:
            for step, value in enumerate([3.0, 1.0, math.nan, 2.0]):
                job.metric("loss", value, step=step)
            job.metric("score", math.inf)
        assert job.entity.properties["metrics"] == {"loss": 2.0, "score": "Infinity"}
        assert job.entity.properties["metric_summaries"] == {
            "loss": {"count": 4, "last_step": 3, "min": 1.0, "max": 3.0}
        }

    def test_it_says_when_and_on_what_it_ran(self, graph: Graph) -> None:
        before = time.time_ns() // 1000
        with Recorder(graph, "TrainingJob", "j") as job:
            pass
        after = time.time_ns() // 1000
        properties = job.entity.properties
        started, ended = properties["started_us"], properties["ended_us"]
        assert isinstance(started, int)
        assert isinstance(ended, int)
        assert before <= started <= ended <= after
        assert properties["python_version"] == sys.version.split()[0]
        digest = properties["environment_digest"]
        assert isinstance(digest, str)
        assert len(digest) == 64

    def test_two_events_tell_of_it(self, graph: Graph) -> None:
        with Recorder(graph, "TrainingJob", "j", actor="ci"):
            assert graph.stats()["events"] == 1
            [job] = graph.find(type="TrainingJob")
            assert job.state == "InProgress"
            # What it runs on is there once, and by its digest.
            digest = job.properties["environment_digest"]
            [environment] = graph.find(type="Environment")
            assert environment.content_hash == digest
            assert "numpy" in environment.properties["packages"]
        assert [(event.kind, event.actor) for event in events(graph)] == [
            ("JobStarted", "ci"),
            ("JobCompleted", "ci"),
        ]

    def test_an_action_is_a_job_too(self, graph: Graph) -> None:
        with Recorder(graph, "DatasetBuild", "b", kind=Kind.ACTION) as job:
            pass
        assert graph.entity("urn:fs:action:DatasetBuild:b") == job.entity

    def test_versions_are_settled_at_the_end(self, graph: Graph) -> None:
        for content, version in (("1", 1), ("2", 2), ("1", 1)):
            with Recorder(graph, "TrainingJob", f"j{content}") as job:
                job.output(artifact("Model", "m", content_hash=content))
            assert [entity.version for entity in job.outputs] == [version]


class TestKnownEntities:
    def test_a_uid_of_one_that_exists(self, graph: Graph) -> None:
        uid = graph.record([DATA], kind="T").entities[0].uid
        with Recorder(graph, "TrainingJob", "j") as job:
            assert job.input(uid) == graph.entity(uid)
        assert job.inputs == (graph.entity(uid),)

    def test_a_uid_of_none_fails_at_once(self, graph: Graph) -> None:
        with Recorder(graph, "TrainingJob", "j") as job, pytest.raises(EntityNotFound):
            job.input("urn:fs:none")
        assert job.entity.state == "Completed"

    def test_one_that_came_from_the_graph_stays_as_it_is_now(self, graph: Graph) -> None:
        old = graph.record([context("Endpoint", "e", state="Old")], kind="T").entities[0]
        new = graph.record([context("Endpoint", "e", state="New")], kind="T").entities[0]
        with Recorder(graph, "Transform", "t") as job:
            job.input(old)
        assert graph.entity(old.uid) == new
        assert (old.uid, job.entity.uid, "ContributedTo") in edges(graph, old.uid)

    def test_one_known_under_another_uid(self, graph: Graph) -> None:
        mine = lineage.Entity(Kind.ARTIFACT, "M", "m", uid="my:m", source_uri="m")
        graph.record([mine], kind="T")
        with Recorder(graph, "Deploy", "d", kind=Kind.ACTION) as job:
            job.input(artifact("M", "m"))
        assert [entity.uid for entity in job.inputs] == ["my:m"]

    def test_what_is_said_twice_of_one_is_merged(self, graph: Graph) -> None:
        with Recorder(graph, "TrainingJob", "j") as job:
            data = job.input(artifact("D", "d", properties={"a": 1}))
            job.input(artifact("D", "d", properties={"b": 2}), type="AssociatedWith")
        assert graph.entity(data.uid).properties == {"a": 1, "b": 2}
        assert graph.stats()["associations"] == 2


class TestRunAgain:
    def test_the_same_job_again_changes_nothing_but_its_run(self, graph: Graph) -> None:
        for _ in range(2):
            with Recorder(graph, "TrainingJob", "j") as job:
                job.input(DATA)
                job.output(MODEL)
        counted = graph.stats()
        assert (counted["events"], counted["associations"]) == (4, 2)
        assert len(graph.query(job.entity, "both")) == 3
        assert job.entity.state == "Completed"
        runs = graph.runs(job.entity)
        assert [run.properties["attempt"] for run in runs] == [1, 2]
        assert {run.state for run in runs} == {"Completed"}
        assert all(run.started_us and run.ended_us for run in runs)
        assert job.entity.properties["attempt"] == 2

    def test_a_failure_stays_with_its_run(self, graph: Graph) -> None:
        failed = Recorder(graph, "TrainingJob", "j")
        with pytest.raises(ValueError, match="bad"), failed:
            raise ValueError("bad")
        with Recorder(graph, "TrainingJob", "j") as job:
            job.metric("auc", 0.5)
        first, second = graph.runs(job.entity)
        assert (first.state, first.properties["failure_reason"]) == ("Failed", "ValueError: bad")
        assert (second.state, second.properties["metrics"]) == ("Completed", {"auc": 0.5})

    def test_a_later_run_does_not_inherit_an_outcome(self, graph: Graph) -> None:
        failed = Recorder(graph, "TrainingJob", "j")
        with pytest.raises(ValueError, match="bad"), failed:
            fail_after(lambda: failed.metric("rmse", 1, step=1), ValueError("bad"))
        with Recorder(graph, "TrainingJob", "j") as job:
            running = graph.entity(job.entity.uid).properties
            assert running["failure_reason"] is None
            assert running["ended_us"] is None
            assert running["metrics"] == {}
        assert job.entity.properties["failure_reason"] is None
        assert job.entity.properties["metric_summaries"] == {}

    def test_a_running_job_says_how_far_it_is(self, graph: Graph) -> None:
        with Recorder(graph, "TrainingJob", "j") as job:
            job.input(DATA)
            job.property("epoch", 1)
            job.update()
            running = graph.entity(job.entity.uid)
            assert (running.state, running.properties["epoch"]) == ("InProgress", 1)
            assert [one.name for one in graph.query(running, "ascendants")] == ["j", DATA.name]
            assert job.inputs[0].created is not None
            job.property("epoch", 2)
            job.update()
            assert graph.entity(job.entity.uid).properties["epoch"] == 2
            model = job.output(artifact("Model", "m", content_hash="1"))
        ended = graph.entity(job.entity.uid)
        assert (ended.state, ended.properties["epoch"]) == ("Completed", 2)
        assert len(graph.query(model, "ascendants")) == 3
        with graph._store.log() as (events, _):
            kinds = [event.kind for event in events]
        assert kinds == ["JobStarted", "JobUpdated", "JobUpdated", "JobCompleted"]
        with pytest.raises(RecordingFailed, match="only a running job"):
            job.update()

    def test_ending_twice_records_once(self, graph: Graph) -> None:
        recorder = Recorder(graph, "TrainingJob", "j")
        with recorder:
            pass
        recorder.__exit__(None, None, None)
        assert graph.stats()["events"] == 2


class TestAFailedJob:
    def test_the_reason_is_recorded_and_the_error_goes_on(self, graph: Graph) -> None:
        error = ValueError("column 'arr_delay' has nulls")
        job = Recorder(graph, "TrainingJob", "j")
        with pytest.raises(ValueError, match="arr_delay") as caught, job:
            fail_after(lambda: job.input(DATA), error)
        assert caught.value is error
        assert job.entity.state == "Failed"
        reason = graph.entity(job.entity.uid).properties["failure_reason"]
        assert reason == "ValueError: column 'arr_delay' has nulls"
        assert len(job.inputs) == 1

    @pytest.mark.parametrize(
        ("error", "state"),
        [
            (KeyboardInterrupt(), "Stopped"),
            (asyncio.CancelledError(), "Stopped"),
            (SystemExit(0), "Completed"),
            (SystemExit(3), "Failed"),
            (MemoryError(), "Failed"),
        ],
    )
    def test_however_it_ends(self, graph: Graph, error: BaseException, state: str) -> None:
        with pytest.raises(type(error)), Recorder(graph, "TrainingJob", "j") as job:
            raise error
        assert graph.entity(job.entity.uid).state == state

    def test_a_long_or_broken_reason_is_made_fit(self, graph: Graph) -> None:
        with pytest.raises(RuntimeError), Recorder(graph, "TrainingJob", "j") as job:
            raise RuntimeError("\ud800" + "x" * 5000)
        reason = job.entity.properties["failure_reason"]
        assert isinstance(reason, str)
        assert reason.startswith(r"RuntimeError: \ud800xxx")
        assert len(reason) < 1100


class TestNoJobWithoutLineage:
    def test_a_job_does_not_start_without(self, graph: Graph) -> None:
        graph.close()
        ran = False
        with (
            pytest.raises(RecordingFailed, match="TrainingJob 'j': its start") as caught,
            Recorder(graph, "TrainingJob", "j"),
        ):
            ran = True
        assert not ran
        assert isinstance(caught.value.__cause__, StoreClosed)

    def test_a_job_does_not_succeed_without(self, graph: Graph) -> None:
        with (
            pytest.raises(RecordingFailed, match="its end could not be recorded"),
            Recorder(graph, "TrainingJob", "j"),
        ):
            graph.close()

    def test_the_jobs_own_error_comes_first(self, graph: Graph) -> None:
        with pytest.raises(ZeroDivisionError) as caught, Recorder(graph, "TrainingJob", "j"):
            fail_after(graph.close, ZeroDivisionError())
        assert any("its end could not be recorded" in note for note in caught.value.__notes__)

    def test_a_refused_end_leaves_the_job_failed(self, graph: Graph) -> None:
        graph.record([lineage.Entity(Kind.ACTION, "A", "a", uid="taken")], kind="T")
        with pytest.raises(RecordingFailed, match="taken"), Recorder(graph, "J", "j") as job:
            job.output(lineage.Entity(Kind.CONTEXT, "C", "c", uid="taken"))
        stored = graph.entity(job.entity.uid)
        assert stored.state == "Failed"
        assert "EntityConflict" in str(stored.properties["failure_reason"])


class TestRefusals:
    def test_a_job_is_a_trial_component_or_an_action(self, graph: Graph) -> None:
        with pytest.raises(InvalidEntity, match="not a Context"):
            Recorder(graph, "J", "j", kind=Kind.CONTEXT)

    def test_parameters_are_json(self, graph: Graph) -> None:
        with pytest.raises(InvalidEntity, match="J 'j': property 'p': expected a finite"):
            Recorder(graph, "J", "j", properties={"p": math.nan})
        with Recorder(graph, "J", "j") as job, pytest.raises(InvalidEntity, match="'p'"):
            job.parameter("p", object())

    @pytest.mark.parametrize("name", ["metrics", "started_us", "failure_reason"])
    def test_its_own_properties_are_its_own(self, graph: Graph, name: str) -> None:
        with pytest.raises(InvalidEntity, match="filled by the recorder"):
            Recorder(graph, "J", "j", properties={name: 1})

    def test_an_experiment_entity_is_refused_at_once(self, graph: Graph) -> None:
        with Recorder(graph, "J", "j") as job, pytest.raises(InvalidAssociation):
            job.input(trial("Trial", "t"))
        assert job.entity.state == "Completed"

    def test_the_job_is_not_its_own_input(self, graph: Graph) -> None:
        with Recorder(graph, "J", "j") as job, pytest.raises(InvalidAssociation, match="itself"):
            job.input(job.entity)

    def test_an_unknown_association_type(self, graph: Graph) -> None:
        with Recorder(graph, "J", "j") as job, pytest.raises(InvalidAssociation, match="'Used'"):
            job.input(DATA, type="Used")

    def test_inputs_belong_into_the_block(self, graph: Graph) -> None:
        recorder = Recorder(graph, "J", "j")
        with pytest.raises(RecordingFailed, match="`with` block"):
            recorder.input(DATA)
        with recorder:
            pass
        with pytest.raises(RecordingFailed):
            recorder.output(action("A", "a"))


class TestEnvironment:
    def test_the_digest_does_not_depend_on_the_place(self, tmp_path: Path) -> None:
        """The same script in another folder, run by the same installation."""
        digests = set()
        for name in ("one", "two"):
            script = tmp_path / name / "train.py"
            script.parent.mkdir()
            script.write_text(
                "from lineage.capture.environment import environment_properties as e\n"
                "print(sorted(e().items()))"
            )
            root = Path(lineage.__file__).parents[1]
            digests.add(
                subprocess.run(
                    [sys.executable, str(script)],
                    env={"PYTHONPATH": str(root), "PATH": ""},
                    cwd=script.parent,
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout
            )
        assert len(digests) == 1
        found = digests.pop()
        assert "code_digest" in found
        assert "code_version" not in found

    def test_the_commit_around_the_script_is_its_version(self, tmp_path: Path) -> None:
        from lineage.capture.environment import _head_commit, _repository

        def commit(folder: Path) -> str | None:
            found = _repository(folder)
            return found and _head_commit(found[1])

        git = tmp_path / ".git"
        inner = tmp_path / "src" / "deep"
        inner.mkdir(parents=True)
        assert commit(inner) is None
        (git / "refs" / "heads").mkdir(parents=True)
        (git / "HEAD").write_text("ref: refs/heads/main\n")
        assert commit(inner) is None
        (git / "packed-refs").write_text(f"# pack-refs\n{'b' * 40} refs/heads/main\n")
        assert commit(inner) == "b" * 40
        (git / "refs" / "heads" / "main").write_text("a" * 40 + "\n")
        assert commit(inner) == "a" * 40
        (git / "HEAD").write_text("c" * 40 + "\n")
        assert commit(inner) == "c" * 40

    def test_changes_that_are_not_committed_are_told(self, tmp_path: Path) -> None:
        """In a process of its own, whose working folder is a repository."""
        script = (
            "import json; from lineage.capture.environment import *; "
            "print(json.dumps([environment_properties(), "
            "[vars(e)['properties'] for e in environment_artifacts()]], default=str))"
        )

        def run(*command: str) -> str:
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "GIT_CONFIG_GLOBAL": "/dev/null"}
            return subprocess.run(
                command, cwd=tmp_path, check=True, capture_output=True, text=True, env=environment
            ).stdout

        run("git", "init", "-q")
        run("git", "remote", "add", "origin", "https://me:secret@example.org/r.git")
        (tmp_path / "a.txt").write_text("one\n")
        run("git", "add", "a.txt")
        who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        run("git", *who, "commit", "-q", "-m", "first")
        clean, _ = json.loads(run(sys.executable, "-c", script))
        assert clean["code_dirty"] is False
        assert clean["code_repository"] == "https://example.org/r.git"
        assert len(clean["code_version"]) == 40
        (tmp_path / "a.txt").write_text("two\n")
        (tmp_path / "new.txt").touch()
        dirty, (environment, changes) = json.loads(run(sys.executable, "-c", script))
        assert dirty["code_dirty"] is True
        assert dirty["code_untracked"] == ["new.txt"]
        assert "+two" in changes["code_diff"]
        assert changes["digest"] == dirty["code_diff_digest"]
        assert "pytest" in environment["packages"]

    def test_it_is_found_once(self) -> None:
        assert environment_properties() is environment_properties()
