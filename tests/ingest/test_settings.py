"""Settings of a fleet: every mistake is told with its place, and no secret is ever shown."""

from __future__ import annotations

import textwrap

import pytest

from ingest import InvalidSettings, KafkaSource
from ingest.fleet.kinds import FORMATS, SOURCES
from ingest.fleet.settings import read_settings

WEATHER = """
[[pipeline]]
name = "weather"
group = "weather"
source = { kind = "kafka", bootstrap = "localhost:9092", topic = "weather" }
"""


@pytest.fixture
def file(tmp_path):
    """Write a settings file."""

    def write(text: str):
        path = tmp_path / "ingest.toml"
        path.write_text(textwrap.dedent(text))
        return path

    return write


def problems(path, **environ: str) -> list[str]:
    with pytest.raises(InvalidSettings) as caught:
        read_settings(path, environ=environ)
    return list(caught.value.problems)


def test_a_short_file_has_the_defaults_of_the_command_line(file, tmp_path):
    found = read_settings(file(f'[store]\nhome = "home"\n{WEATHER}'))

    (weather,) = found.pipelines
    assert found.store.home == str(tmp_path / "home")
    assert found.state == tmp_path / "home/ingest/ingest"
    assert weather.source["consumer_group"] == "featureline-weather"
    assert weather.dead_letters == {"folder": str(tmp_path / "home/deadletters")}
    assert weather.stop_rule == {}
    assert (weather.workers, weather.batch_size, weather.format) == (1, 2000, {"kind": "json"})
    assert isinstance(weather.open_source(), KafkaSource)
    assert weather.open_source().assignment == "group"
    assert weather.open_aside().assignment == "all"


def test_defaults_are_merged_key_by_key_and_a_pipeline_wins(file, tmp_path):
    (tmp_path / "planes.toml").write_text('tail = "tailnum"')
    found = read_settings(
        file(
            """
            [store]
            connect = "localhost:50051"
            [defaults]
            batch_size = 100
            dead_letters = "refused"
            source = { kind = "kafka", bootstrap = "localhost:9092", on_gap = "skip" }
            [[pipeline]]
            name = "weather"
            group = "weather"
            source = { topic = "weather" }
            [[pipeline]]
            name = "planes"
            group = "planes"
            batch_size = 5
            dead_letters = false
            mapping = "planes.toml"
            source = { kind = "files", path = "planes" }
            """
        )
    )

    weather, planes = found.pipelines
    assert (weather.source["topic"], weather.source["on_gap"]) == ("weather", "skip")
    assert (weather.batch_size, planes.batch_size) == (100, 5)
    assert weather.dead_letters == {"folder": str(tmp_path / "refused")}
    assert planes.dead_letters is None
    assert planes.source == {"kind": "files", "path": str(tmp_path / "planes")}
    assert planes.mapping == {"tail": "tailnum"}
    assert tmp_path / "planes.toml" in found.files
    assert found.state == tmp_path / ".featureline-ingest/ingest"


def test_all_mistakes_are_told_at_once_with_place_and_nearest_name(file):
    found = problems(
        file(
            """
            [stor]
            [defaults]
            batchsize = 5
            [[pipeline]]
            name = "weather"
            grup = "weather"
            workers = "two"
            batch_size = 0
            source = { kind = "kafka", bootstrap = "b:1", topic = "t", on_gap = "skp", tpoic = 1 }
            format = { kind = "jsn" }
            [[pipeline]]
            group = "x"
            source = { kind = "kafk" }
            """
        )
    )

    for line in (
        "stor: expected one of defaults, fleet, pipeline, store, got 'stor'; did you mean 'store'?",
        "pipeline 'weather'.workers: expected a whole number, got 'two'",
        "pipeline 'weather'.batch_size: expected at least 1, got 0",
        "pipeline 'weather'.group: expected text, got nothing",
        "pipeline 'weather'.source.on_gap: expected one of fail, skip, got 'skp'; did you mean "
        "'skip'?",
        f"pipeline 'weather'.format.kind: expected one of {', '.join(FORMATS)}, got 'jsn'; did you "
        "mean 'json'?",
        "pipeline number 2.name: expected text, got nothing",
        f"pipeline number 2.source.kind: expected one of {', '.join(SOURCES)}, got 'kafk'; did you "
        "mean 'kafka'?",
    ):
        assert line in found
    text = "\n".join(found)
    assert "'weather'.grup: expected one of " in text
    assert "got 'tpoic'; did you mean 'topic'?" in text
    assert "got 'batchsize'; did you mean 'batch_size'?" in text
    assert len(found) == 11


def test_secrets_come_from_the_environment_or_files_and_are_not_shown(file, tmp_path):
    (tmp_path / "password").write_text("hunter2\n")
    text = """
        [store]
        connect = "localhost:50051"
        token = "${TOKEN}"
        [[pipeline]]
        name = "weather"
        group = "weather"
        workers = "${WORKERS}"
        [pipeline.source]
        kind = "kafka"
        bootstrap = "localhost:9092"
        topic = "costs$$"
        [pipeline.source.security]
        protocol = "SASL_PLAINTEXT"
        mechanism = "PLAIN"
        username = "u"
        password_file = "password"
        """
    found = read_settings(file(text), environ={"TOKEN": "sesame", "WORKERS": "2"})

    assert found.store.token == "sesame"
    (weather,) = found.pipelines
    assert weather.source["security"]["password"] == "hunter2"
    assert (weather.source["topic"], weather.workers) == ("costs$", 2)
    assert "sesame" not in repr(found)
    assert "hunter2" not in repr(found)

    (wrong,) = problems(file(text), TOKEN="sesame", WORKERS="sesame")
    assert wrong == (
        "pipeline 'weather'.workers: expected a whole number, got another value (not shown: it is "
        "from the environment)"
    )
    absent = problems(file(text), WORKERS="2")
    assert absent[0].startswith(
        "store.token: expected the environment variable 'TOKEN', got none of that name; export"
    )
    (tmp_path / "password").unlink()
    (gone,) = problems(file(text), TOKEN="sesame", WORKERS="2")
    assert "password_file: expected a file with the secret" in gone
    assert "No such file" in gone


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (WEATHER, "pipeline 'weather': expected each name once, got it 2 times"),
        (
            WEATHER.replace('name = "weather"', 'name = "again"'),
            "pipeline 'again'.source: expected another consumer_group than that of pipeline "
            "'weather', got the same, so that each would get half of the messages",
        ),
        ("[store]\nhome = 'h'\nconnect = 'c:1'", "store: expected home or connect, got both"),
        ("[store]\ntls_cert = 'c'", "store.tls_cert: expected it beside connect, got no connect"),
        (
            '[[pipeline]]\nname = "a/b"\ngroup = "g"\nsource = { kind = "files", path = "p" }',
            "pipeline 'a/b'.name: expected 1 to 64 letters, digits, _ . -, got 'a/b'",
        ),
        (
            '[[pipeline]]\nname = "f"\ngroup = "g"\nworkers = 2\n'
            'source = { kind = "files", path = "p" }',
            "pipeline 'f'.workers: expected 1, got 2; this source is not shared out among workers",
        ),
        (
            '[[pipeline]]\nname = "f"\ngroup = "g"\nmapping = { a = 1 }\n'
            'source = { kind = "files", path = "p" }',
            "pipeline 'f': mapping: expected the members features, inputs, drop, rest, got 'a'",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(file, more, told):
    assert told in problems(file(WEATHER + more))


def test_a_file_of_security_has_its_own_folder_and_secrets(file, tmp_path):
    (tmp_path / "kafka").mkdir()
    (tmp_path / "kafka/security.toml").write_text(
        'protocol = "SASL_SSL"\nmechanism = "PLAIN"\nusername = "u"\nca = "ca.pem"\n'
        'key_password_env = "PASSWORD"\npassword = "p"\n'
    )
    text = WEATHER.replace("topic =", 'security = "kafka/security.toml", topic =')
    (weather,) = read_settings(file(text), environ={"PASSWORD": "hunter2"}).pipelines
    assert weather.source["security"] == {
        "protocol": "SASL_SSL",
        "mechanism": "PLAIN",
        "username": "u",
        "ca": str(tmp_path / "kafka/ca.pem"),
        "key_password": "hunter2",
        "password": "p",
    }
    with (tmp_path / "kafka/security.toml").open("a") as more:
        more.write('key_password_file = "p"')
    told = "\n".join(problems(file(text)))
    assert "key_password_env: expected the environment variable 'PASSWORD', got none" in told
    assert "expected one of key_password, key_password_file, key_password_env, got" in told
    assert "key_password_file: expected a file with the secret" in told


def test_a_file_that_cannot_be_read_is_refused(tmp_path, file):
    assert "it cannot be read: No such file" in problems(tmp_path / "absent.toml")[0]
    assert "it is no TOML: " in problems(file("a = "))[0]
    assert "expected at least one [[pipeline]], got none" in problems(file(""))[0]
