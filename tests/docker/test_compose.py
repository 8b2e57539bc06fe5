"""The container files agree with the repository and with the command line's contract."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from featurestore.online import RedisStore

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
COMPOSE = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))

# The command line's contract: each command with the options of its own.
COMMANDS: dict[str, set[str]] = {
    "serve": {"--online", "--grpc", "--http", "--workers", "--front"},
    "migrate": {"--to", "--from", "--abort"},
    "group create": set(),
    "group describe": set(),
    "group list": set(),
    "group update": set(),
    "group delete": set(),
    "put": set(),
    "get": set(),
    "delete": {"--event-time", "--hard"},
    "records": set(),
    "flush": set(),
    "verify": set(),
    "ingest kafka": {
        "--bootstrap",
        "--topic",
        "--group",
        "--consumer-group",
        "--mapping",
        "--until-caught-up",
    },
    "ingest files": {"--group"},
    "dataset build": {"--spine", "--features", "--as-of", "--out", "--key", "--time"},
    "train": {"--channel", "--set", "--job", "--device"},
    "predict": {"--input", "--out"},
    "lineage query": {"--direction", "--depth", "--type"},
}
EVERYWHERE = {"--home", "--connect", "--json", "--help"}


def not_in_contract(words: list[str]) -> list[str]:
    """The command, if unknown, or those of its options that are unknown."""
    line = " ".join(words)
    command = next((name for name in COMMANDS if f"{line} ".startswith(f"{name} ")), None)
    if command is None:
        return [line]
    options = {word.partition("=")[0] for word in words if word.startswith("--")}
    return sorted(options - COMMANDS[command] - EVERYWHERE)


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Each instruction with its arguments, comments left out and continued lines joined."""
    lines = dockerfile.read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    joined = text.replace("\\\n", " ").splitlines()
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined if line]


def process(dockerfile: Path) -> tuple[list[str], list[str]]:
    """ENTRYPOINT and CMD."""
    found = dict(instructions(dockerfile))
    return json.loads(found["ENTRYPOINT"]), json.loads(found["CMD"])


def section(name: str) -> dict[str, str]:
    """The entries of a top-level section of the compose file, each with its indented text."""
    body = re.search(rf"^{name}:\n((?: .*\n|\n)+)", COMPOSE, re.MULTILINE)
    assert body is not None
    parts = re.split(r"^ {2}(\w+):\n", body[1], flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


SERVICES = section("services")
BUILT = {name: text for name, text in SERVICES.items() if "dockerfile:" in text}


def flow_list(text: str, key: str) -> list[str]:
    found = re.search(rf"^ +{key}: (\[.*\])$", text, re.MULTILINE)
    return json.loads(found[1]) if found else []


def dockerfile_of(service: str) -> Path:
    found = re.search(r"^ +dockerfile: (\S+)$", SERVICES[service], re.MULTILINE)
    assert found is not None
    return ROOT / found[1]


def test_compose_builds_every_dockerfile_and_no_other() -> None:
    assert sorted(map(dockerfile_of, BUILT)) == DOCKERFILES


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_image_runs_a_command_of_the_contract(dockerfile: Path) -> None:
    entrypoint, arguments = process(dockerfile)
    assert entrypoint[0] == "featureline"
    assert not_in_contract(entrypoint[1:] + arguments) == []


@pytest.mark.parametrize("service", BUILT)
def test_service_runs_a_command_of_the_contract(service: str) -> None:
    entrypoint, _ = process(dockerfile_of(service))
    assert not_in_contract(entrypoint[1:] + flow_list(SERVICES[service], "command")) == []


def test_the_server_takes_a_store_of_valkeys_settings(own_redis: Callable[..., Any]) -> None:
    words = flow_list(SERVICES["valkey"], "command")[1:]
    settings = {name.strip("-"): value for name, value in zip(words[::2], words[1::2], strict=True)}
    RedisStore(own_redis(**settings).url).close()


def test_readme_shows_commands_of_the_contract() -> None:
    text = (DOCKER / "README.md").read_text(encoding="utf-8")
    shown = [
        *re.findall(r"`featureline ([^`]+)`", text),
        *re.findall(r"^featureline (.+)$", text, re.M),
    ]
    trained = re.findall(r" run --rm training (.+)$", text, re.MULTILINE)
    shown.extend(f"train {arguments}" for arguments in trained)
    assert len(shown) >= 5
    assert [unknown for line in shown for unknown in not_in_contract(shlex.split(line))] == []


def test_an_unknown_command_or_option_is_noticed() -> None:
    assert not_in_contract(["server", "--grpc", "0.0.0.0:1"]) == ["server --grpc 0.0.0.0:1"]
    assert not_in_contract(["serve", "--port=1", "--grpc", "0.0.0.0:1"]) == ["--port"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_image_has_two_stages_and_does_not_run_as_root(dockerfile: Path) -> None:
    steps = instructions(dockerfile)
    stages = [i for i, (word, _) in enumerate(steps) if word == "FROM"]
    assert [steps[i][1] for i in stages] == ["python:3.11-slim AS build", "python:3.11-slim"]
    assert ("USER", "featureline") in steps[stages[-1] :]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_build_gets_what_the_wheel_is_made_from(dockerfile: Path) -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = pyproject["project"]
    packages = pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    needed = {"pyproject.toml", project["readme"], *project["license-files"], *packages}
    copied = {
        name
        for word, arguments in instructions(dockerfile)
        if word == "COPY" and not arguments.startswith("--from")
        for name in arguments.split()[:-1]
    }
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    assert needed <= copied <= kept
    assert "*" in ignore


def test_training_image_takes_the_torch_that_the_project_asks_for() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [
        requirement
        for requirement in pyproject["project"]["optional-dependencies"]["training"]
        if requirement.startswith("torch")
    ]
    text = (DOCKER / "training.Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r'"(torch[^"]*)"', text) == wanted


@pytest.mark.parametrize("service", SERVICES)
def test_ports_are_published_on_the_loopback_address(service: str) -> None:
    ports = re.search(r"^ {4}ports:\n((?: {6}.*\n)+)", SERVICES[service], re.MULTILINE)
    for line in ports[1].splitlines() if ports else ():
        assert line.strip().startswith('- "127.0.0.1:')


def test_volumes_are_named_and_used() -> None:
    mounted = set(re.findall(r"^ {6}- (\S+):/\S+$", COMPOSE, re.MULTILINE))
    declared = set(re.findall(r"^ {2}(\w+):$", COMPOSE.partition("\nvolumes:\n")[2], re.MULTILINE))
    assert mounted == declared


@pytest.mark.parametrize("service", sorted(SERVICES.keys() - BUILT.keys()))
def test_image_of_others_is_pinned_and_has_a_health_check(service: str) -> None:
    image = re.search(r"^ {4}image: (\S+)$", SERVICES[service], re.MULTILINE)
    assert image is not None
    assert re.search(r":\d", image[1]), f"{service}: {image[1]} names no version"
    assert "healthcheck:" in SERVICES[service]


def test_server_starts_alone() -> None:
    assert flow_list(SERVICES["server"], "profiles") == []
    assert "depends_on:" not in SERVICES["server"]


@pytest.mark.parametrize("service", SERVICES)
def test_profile_of_a_service_starts_what_it_depends_on(service: str) -> None:
    text = SERVICES[service].partition("depends_on:\n")[2]
    for needed in re.findall(r"^ {6}(\w+):$", text, re.MULTILINE):
        profiles = set(flow_list(SERVICES[needed], "profiles"))
        assert not profiles or set(flow_list(SERVICES[service], "profiles")) <= profiles


@pytest.fixture
def health_server() -> Iterator[tuple[health.HealthServicer, int]]:
    server = grpc.server(ThreadPoolExecutor(1))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, port
    server.stop(None).wait()


def test_health_check_tells_a_serving_server_from_another(
    health_server: tuple[health.HealthServicer, int],
) -> None:
    servicer, port = health_server
    check = dict(instructions(DOCKER / "server.Dockerfile"))["HEALTHCHECK"].partition("CMD ")[2]
    _, *arguments = json.loads(check)

    def healthy_at(port: int) -> bool:
        words = [word.replace("127.0.0.1:50051", f"127.0.0.1:{port}") for word in arguments]
        return subprocess.run([sys.executable, *words], capture_output=True).returncode == 0

    assert healthy_at(port)
    servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert not healthy_at(port)
    assert not healthy_at(1)
