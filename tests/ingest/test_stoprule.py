"""The stop rule: a run ends before it drains a topic into the dead letters."""

from __future__ import annotations

import json

import pytest

from ingest import FileSource, Message, Pipeline, StopRule, TooManyRefusals
from ingest.validate import Refusal


def batch(first: int, verdicts: str):
    """A batch of messages from an offset on: `x` is refused."""
    messages = [Message("0", first + at, b"") for at in range(len(verdicts))]
    refused = [
        Refusal(message, "InvalidRecord", f"g.x: expected Integral, got {message.offset}")
        for message, verdict in zip(messages, verdicts, strict=True)
        if verdict == "x"
    ]
    return messages, refused


@pytest.mark.parametrize(
    ("verdicts", "stops"),
    [
        (["x.x.x.x."], False),
        (["xxxxx"], True),
        (["xxxx", "x"], True),
        (["xxxx......", "....xxxx.."], False),
        (["......xxxx", "x"], True),
        (["xxxx", ".......xxx", "x......xxx"], False),
        (["xxxx", ".......xxx", "xx"], True),
    ],
)
def test_share_of_the_last_messages(verdicts, stops):
    watch = StopRule(share=0.5, of_last=10).watch()

    def see():
        read = 0
        for one in verdicts:
            watch.see(*batch(read, one))
            read += len(one)

    if stops:
        with pytest.raises(TooManyRefusals):
            see()
    else:
        see()


def test_count_within_a_time_forgets_old_ones():
    now = [0.0]
    watch = StopRule(share=None, count=3, within_s=10).watch(clock=lambda: now[0])
    watch.see(*batch(0, "xx"))
    now[0] = 11.0
    watch.see(*batch(2, "xx"))
    with pytest.raises(TooManyRefusals, match=r"3 messages within 10 s were refused"):
        watch.see(*batch(4, "x"))


def test_count_of_a_run():
    watch = StopRule(share=None, count=2).watch()
    watch.see(*batch(0, "x" + "." * 100))
    with pytest.raises(TooManyRefusals, match=r"2 messages of this run"):
        watch.see(*batch(101, "x"))


def test_report_counts_reasons_and_gives_examples():
    messages, refused = batch(0, "xxxxx")
    refused[3] = Refusal(messages[3], "Undecodable", "message: expected a JSON object, got 'x'")
    with pytest.raises(TooManyRefusals) as raised:
        StopRule(share=0.5, of_last=10).watch().see(messages, refused)
    error = raised.value
    assert error.reasons == {
        "InvalidRecord: g.x: expected Integral": 4,
        "Undecodable: message: expected a JSON object": 1,
    }
    assert [(partition, offset) for partition, offset, _ in error.examples] == [
        ("0", 0),
        ("0", 3),
        ("0", 1),
    ]
    assert "stopped: 5 of the last 5 messages were refused" in str(error)
    assert "4 × InvalidRecord: g.x: expected Integral" in str(error)
    assert "partition 0 offset 3: message: expected a JSON object, got 'x'" in str(error)


@pytest.mark.parametrize(
    "arguments",
    [
        {"share": 0.0},
        {"share": 1.1},
        {"of_last": 0},
        {"count": 0},
        {"within_s": 5.0},
        {"count": 1, "within_s": 0.0},
    ],
)
def test_rule_that_makes_no_sense_is_refused(arguments):
    with pytest.raises(ValueError, match=r"expected|not given"):
        StopRule(**arguments)


def test_stopped_run_stores_nothing_of_the_batch_and_the_next_reads_it_again(
    tmp_path, store, stored, dead_letters, reading
):
    path = tmp_path / "r.jsonl"
    renamed = [{"t": 1.0, **reading(n)} for n in range(20)]
    path.write_text("".join(json.dumps(one) + "\n" for one in renamed))
    rule = StopRule(share=0.5, of_last=20)

    def run(**options):
        source = FileSource(path)
        return Pipeline(
            source,
            store,
            "readings",
            batch_size=7,
            dead_letters=dead_letters,
            stop_rule=rule,
            **options,
        ).run()

    for _ in range(2):
        # Each run puts the first batch aside; the second is too much for the rule.
        with pytest.raises(TooManyRefusals, match=r"10 × InvalidRecord: readings\.t"):
            run()
    assert list(store.records("readings")) == []
    # The letters of both runs' batches can be read, also of the one that was not stored.
    assert [one.offset for one in dead_letters.read()] == list(range(20))

    mapping = {name: name for name in reading(0)}
    assert run(mapping=mapping).written == 6
    assert stored() == list(range(14, 20))
    assert [one.offset for one in dead_letters.read()] == list(range(14))


def test_default_takes_single_bad_messages_and_stops_at_a_flood(tmp_path, store, dead_letters):
    path = tmp_path / "r.jsonl"
    path.write_text("{bad\n" * 899)
    Pipeline(FileSource(path), store, "readings", dead_letters=dead_letters).run()
    path.write_text("{bad\n" * 900)
    with pytest.raises(TooManyRefusals, match="900 of the last 900"):
        Pipeline(FileSource(path), store, "readings", dead_letters=dead_letters).run()
    report = Pipeline(
        FileSource(path), store, "readings", dead_letters=dead_letters, stop_rule=None
    ).run()
    assert report.refused == 900
