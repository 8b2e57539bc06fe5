"""A writer of ML Metadata: `python mlmd_process.py FILE WRITER COUNT`.

Each job is one transaction of 12 nodes and 20 edges: 4 executions, 8 artifacts, 20 events. Waits
for a line on stdin, and prints when it began and ended and its longest job.
"""

import sys
import time

from ml_metadata.metadata_store import metadata_store  # type: ignore[import-not-found]
from ml_metadata.proto import metadata_store_pb2 as pb  # type: ignore[import-not-found]

EXECUTIONS = 4
ARTIFACTS = 8
EVENTS = 20


def main(path: str, writer: str, count: int) -> None:
    """Write `count` jobs."""
    config = pb.ConnectionConfig()
    config.sqlite.filename_uri = path
    config.sqlite.connection_mode = 3
    store = metadata_store.MetadataStore(config)
    data, step = pb.ArtifactType(name="DataSet"), pb.ExecutionType(name="Step")
    data.properties["hash"] = pb.STRING
    step.properties["state"] = pb.STRING
    data_id, step_id = _put_types(store, data, step)
    print("ready", flush=True)
    sys.stdin.readline()
    began = last = time.monotonic()
    longest = 0.0
    for number in range(count):
        _put_job(store, data_id, step_id, f"{writer}-{number}")
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    print(began, last, longest, flush=True)


def _put_types(store, data, step):  # type: ignore[no-untyped-def]
    for turn in range(50):
        try:
            return store.put_artifact_type(data), store.put_execution_type(step)
        except Exception:
            if turn == 49:
                raise
            time.sleep(0.1)


def _put_job(store, data_id, step_id, name):  # type: ignore[no-untyped-def]
    executions = [pb.Execution(type_id=step_id, name=f"{name}/e{n}") for n in range(EXECUTIONS)]
    artifacts = []
    for n in range(ARTIFACTS):
        artifact = pb.Artifact(type_id=data_id, uri=f"s3://bucket/{name}/{n}", name=f"{name}/a{n}")
        artifact.properties["hash"].string_value = f"{n:064x}"
        artifacts.append(artifact)
    for execution in executions:
        execution.properties["state"].string_value = "Completed"
    edges = []
    for place in range(EVENTS):
        kind = pb.Event.OUTPUT if place % 5 > 2 else pb.Event.INPUT
        execution, artifact = place % EXECUTIONS, (place * 3 + place // EXECUTIONS) % ARTIFACTS
        edges.append((execution, artifact, pb.Event(type=kind)))
    while True:
        try:
            store.put_lineage_subgraph(executions, artifacts, [], edges)
        except Exception as error:
            if "locked" not in str(error) and "busy" not in str(error).lower():
                raise
        else:
            return


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
