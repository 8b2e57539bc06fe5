"""Files cut into requests, filters and joins: the parts of a transform job, without a process."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training import Dataset, find_algorithm
from training.errors import InvalidData, InvalidJob
from training.formats import tfrecord
from training.formats.inference import Accept
from training.formats.recordio.framing import framed
from training.run import Run
from training.transforms.answering import ModelResponder, Responder
from training.transforms.cutting import Request, requests_of
from training.transforms.job import DataProcessing, TransformInput, TransformJob, TransformOutput
from training.transforms.joining import Joiner
from training.transforms.pointing import Pointer
from training.transforms.work import Asked

CSV, JSON, LINES = "text/csv", "application/json", "application/jsonlines"
RECORDS = "application/x-recordio-protobuf"


def cut(path: Path, base: str, split: str, **how: object) -> list[Request]:
    how = {"single": False, "compressed": False, "most_bytes": 1 << 20, **how}
    return list(requests_of(path, base=base, split=split, **how))


def test_a_file_is_cut_into_requests_of_the_size_allowed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"1,2\r\n\n3,4\n  \n55,66\n7,8")
    assert cut(path, CSV, "Line", most_bytes=8) == [
        Request(1, (b"1,2", b"3,4")),
        Request(3, (b"55,66",)),
        Request(4, (b"7,8",)),
    ]
    assert [one.first for one in cut(path, CSV, "Line", single=True)] == [1, 2, 3, 4]
    assert cut(path, CSV, "Line")[0].body(lines=True) == b"1,2\n3,4\n55,66\n7,8\n"
    (whole,) = cut(path, CSV, "None")
    assert (whole.body(lines=False), whole.named) == (path.read_bytes(), "the whole file")
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert cut(packed, CSV, "Line", compressed=True) == cut(path, CSV, "Line")
    with pytest.raises(InvalidData, match=r"it cannot be read: Not a gzipped file"):
        cut(path, CSV, "Line", compressed=True)
    with pytest.raises(InvalidData, match=r"record 3: expected at most MaxPayloadInMB=0, got"):
        cut(path, CSV, "Line", most_bytes=5)
    with pytest.raises(InvalidData, match="the whole file; cut it with SplitType"):
        cut(path, CSV, "None", most_bytes=5)
    path.write_bytes(b"")
    assert cut(path, CSV, "Line") == cut(path, CSV, "None") == []


def test_frames_stay_whole_and_rows_of_parquet_become_lines(tmp_path: Path) -> None:
    frames = [framed([b"abc"]), framed([b"defgh"]), framed([b""])]
    (tmp_path / "f").write_bytes(b"".join(frames))
    first, second = cut(tmp_path / "f", RECORDS, "RecordIO", most_bytes=24)
    assert [*first.records, *second.records] == frames
    (tmp_path / "f").write_bytes(b"no frame")
    with pytest.raises(InvalidData, match="record 1 at byte 0: expected the magic number"):
        cut(tmp_path / "f", RECORDS, "RecordIO")
    times = pa.array([0, 1], pa.timestamp("ms", "Europe/Berlin"))
    pq.write_table(
        pa.table({"a": [1.5, float("nan")], "b": ["x", None], "t": times}), tmp_path / "t"
    )
    (request,) = cut(tmp_path / "t", "application/x-parquet", "Line")
    assert list(map(json.loads, request.records)) == [
        {"a": 1.5, "b": "x", "t": "1970-01-01T00:00:00.000Z"},
        {"a": None, "b": None, "t": "1970-01-01T00:00:00.001Z"},
    ]


def test_tfrecords_keep_their_frames_where_they_share_a_request(tmp_path: Path) -> None:
    frames = [tfrecord.framed(data) for data in (b"abc", b"", b"defgh")]
    path = tmp_path / "a.tfrecord"
    path.write_bytes(b"".join(frames))
    kind = tfrecord.TFRECORDS
    assert cut(path, kind, "TFRecord") == [Request(1, tuple(frames))]
    single = cut(path, kind, "TFRecord", single=True)
    assert single == [Request(1, (b"abc",)), Request(2, (b"",)), Request(3, (b"defgh",))]
    job = TransformJob(
        transform_job_name="t",
        model_name="s",
        transform_input=TransformInput(path="a", content_type=kind),
        transform_output=TransformOutput(path="b"),
    )
    assert job.cut_of(kind) == ("TFRecord", "MultiRecord")
    for cause, words in (
        (path.read_bytes()[:-1], "record 3 at byte 35: expected 9 more bytes, got 8: it is cut"),
        (path.read_bytes()[:21], "record 2 at byte 19: expected 12 bytes of a TFRecord, got 2"),
        (b"no frame at all.", "record 1 at byte 0: the checksum of its length is wrong"),
        (frames[0] + frames[2].replace(b"g", b"x"), "record 2 at byte 19: the checksum of its 5"),
    ):
        path.write_bytes(cause)
        with pytest.raises(InvalidData, match=words):
            cut(path, kind, "TFRecord")


@pytest.mark.parametrize(
    ("kinds", "processing", "record", "reply", "expected"),
    [
        ((CSV, CSV), {"join_source": "Input"}, b'1,"a,b"', b"0.5\n", b'1,"a,b",0.5\n'),
        (
            (CSV, CSV),
            {"join_source": "Input", "output_filter": "$[0,-1]"},
            b"7,3.5,2",
            b"0.5\n",
            b"7,0.5\n",
        ),
        ((CSV, LINES), {"output_filter": "$.a[1:]"}, b"7", b'{"a":[1,2,3]}\n', b"[2,3]\n"),
        (
            (LINES, LINES),
            {"join_source": "Input"},
            b'{"id":"a"}',
            b'{"score":1}\n',
            b'{"id":"a","SageMakerOutput":{"score":1}}\n',
        ),
        (
            (JSON, JSON),
            {"join_source": "Input"},
            b"[1,2]",
            b'{"predictions":[1]}',
            b'{"SageMakerInput":[1,2],"SageMakerOutput":{"predictions":[1]}}',
        ),
    ],
)
def test_records_are_joined_with_their_answers_and_filtered(
    kinds: tuple[str, str], processing: dict[str, str], record: bytes, reply: bytes, expected: bytes
) -> None:
    assert Joiner(DataProcessing(**processing), *kinds).output([record], reply) == expected


def test_what_is_asked_is_filtered_and_each_record_needs_its_answer() -> None:
    joiner = Joiner(DataProcessing(input_filter="$[1:]", join_source="Input"), CSV, CSV)
    assert joiner.ask(b'7,"a,b",2') == b'"a,b",2'
    with pytest.raises(InvalidData, match="an answer for each of 2 records, got 1"):
        joiner.output([b"1,2", b"3,4"], b"0.5\n")
    lined = Joiner(DataProcessing(), JSON, JSON, ends_lines=True)
    assert lined.output([b"{}"], b"{}") == b"{}\n"
    assert Joiner(DataProcessing(), RECORDS, RECORDS).output([b""], b"raw") == b"raw"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("$.a", {"b": 1}, r"\$\.a finds nothing: expected 'a' among 'b'"),
        ("$[3]", [1, 2], r"expected an element \[3\] of a list, which has 2"),
        ("$.a[0]", {"a": 5}, "expected a list, got 5"),
        ("$[*]", "x", "expected a list or an object, got 'x'"),
    ],
)
def test_a_path_that_finds_nothing_says_what_is_there(path: str, value: object, words: str) -> None:
    with pytest.raises(InvalidData, match=words):
        Pointer.parse(path).pick(value)


def test_paths_as_sagemaker_writes_them() -> None:
    value = {"a b": {"c-d": [1, 2, 3]}, "e": {"x": 1, "y": 2}}
    for path, expected in (
        ("$['a b'].c-d[-1]", 3),
        ('$["a b"]["c-d"][:2]', [1, 2]),
        ("$.e.*", [1, 2]),
        ("$.e[*]", [1, 2]),
        ("$.e.['x','y']", {"x": 1, "y": 2}),
        ("$", value),
    ):
        assert Pointer.parse(path).pick(value) == expected
    for path, place in (("$..a", 2), ("$.a.", 4), ("$[", 2), ("$[1", 2), ("$['a',]", 2), ("$a", 2)):
        with pytest.raises(InvalidJob, match=f"at character {place}: "):
            Pointer.parse(path)
    with pytest.raises(InvalidJob, match="at most 63 characters"):
        Pointer.parse("$." + "a" * 70)


def test_a_model_takes_only_what_its_algorithm_reads() -> None:
    algorithm = find_algorithm("factorization-machines")
    rows = pa.table({"label": [0.0, 1.0] * 4, "features": _vectors([[1, 0], [0, 1]] * 4)})
    fit = algorithm.of({"feature_dim": 2, "num_factors": 2, "predictor_type": "regressor"}).fit
    responder = ModelResponder(fit(Dataset.of(rows), Run(threads=1)), algorithm)
    with pytest.raises(InvalidData, match="a model of factorization-machines takes no text/csv"):
        responder.answer(b"1,0\n", CSV, Accept(JSON))
    body = b'{"instances":[{"data":{"features":{"values":[1,0]}}}]}'
    assert list(json.loads(responder.answer(body, JSON, Accept(JSON)))) == ["predictions"]


def _vectors(rows: list[list[int]]) -> pa.Array:
    return pa.array(rows, pa.list_(pa.float32(), 2))


def test_answers_for_a_group_are_lines_of_what_has_names() -> None:
    def job(source: str, accept: str | None = None, **processing: str) -> TransformJob:
        return TransformJob(
            transform_job_name="t",
            model_name="m",
            transform_input=TransformInput(path="a", content_type=source),
            transform_output=TransformOutput(feature_group="g", accept=accept),
            data_processing=DataProcessing(**processing),
        )

    assert job(CSV, input_filter="$[1:]").accept_of(CSV) == Accept(LINES)
    for refused, words in (
        (job(CSV, CSV), "so they are application/jsonlines; got text/csv"),
        (job(RECORDS), "are joined from text/csv, application/json"),
        (job(CSV, output_filter="$.a"), "keeps what Features names"),
    ):
        with pytest.raises(InvalidJob, match=words):
            refused.accept_of(str(refused.transform_input.content_type))
    own = TransformJob(
        transform_job_name="t",
        model_name="m",
        transform_input=TransformInput(path="a", content_type="application/x-npy"),
        transform_output=TransformOutput(path="b"),
    )
    assert own.accept_of("application/x-npy", any_type=True) == Accept("application/x-npy")
    with pytest.raises(InvalidJob, match=r"requests are text/csv, .*; got application/x-npy"):
        own.accept_of("application/x-npy")
    with pytest.raises(InvalidJob, match="a record of application/x-parquet is a row"):
        replace(own, transform_input=TransformInput(path="a", split_type="None")).cut_of(
            "application/x-parquet"
        )


def test_the_first_record_that_is_refused_is_found() -> None:
    class Picky(Responder):
        def answer(self, body: bytes, content_type: str, accept: Accept) -> bytes:
            lines = body.split()
            if b"bad" in lines:
                raise InvalidData("it is bad")
            if len(lines) == 3:
                raise RuntimeError("three is too many")
            return body

    job = TransformJob(
        transform_job_name="t",
        model_name="m",
        transform_input=TransformInput(path="a", content_type=CSV),
        transform_output=TransformOutput(path="b"),
    )
    asked = Asked.of(job, CSV)
    rows = (*(b"1",) * 30, b"bad", *(b"1",))
    with pytest.raises(InvalidData, match=r"^record 131: it is bad$"):
        asked.answer(Picky(), Request(101, rows))
    with pytest.raises(InvalidData, match=r"^records 1 to 3: RuntimeError: three is too many$"):
        asked.answer(Picky(), Request(1, (b"1",) * 3))
