"""Algorithms at their usual sizes beside what a user would take instead, on generated data.

That is a library called directly (faiss, xgboost, scikit-learn), one in an environment of its own
(krcf, gensim), or the same model written in plain torch. One thread each; both ends are compared by
how good the models are on other rows, and the benchmark fails where ours is worse.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, final

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import xgboost
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix
from sklearn.decomposition import LatentDirichletAllocation
from threadpoolctl import threadpool_limits
from torch.nn import functional

import training
from tests.benchmarks import plain_torch
from tests.benchmarks.child import ROOT
from tests.benchmarks.harness import Figure, Size, compare, interleave, note
from tests.training.logins import make_logins
from training import Dataset, Run, metrics
from training.data import read_dataset

__all__ = ["figures"]

Array = npt.NDArray[Any]
Sample = tuple[float, float]

_ENVIRONMENT: Final = Path("build/venv-peers")
_SCRIPT: Final = Path(__file__).with_name("peers_process.py")
_PACKAGES: Final = ("krcf==0.4.0", "gensim>=4.3", "numpy")
_TIMEOUT_S: Final = 600
_SPARSE: Final = pa.struct([("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float32()))])


@final
@dataclass(frozen=True)
class _Sizes:
    """How much of the whole size, and how often each way."""

    share: float
    repeats: int

    def of(self, rows: int) -> int:
        """Return a number of rows at this size."""
        return max(int(rows * self.share), 200)


_SIZES: Final = {
    Size.TINY: _Sizes(0.01, 1),
    Size.DEFAULT: _Sizes(0.2, 3),
    Size.FULL: _Sizes(1.0, 3),
}


@final
@dataclass(frozen=True)
class _Match:
    """What is compared: both return how good their model is.

    Args:
        about: what both do.
        instead: whose the baseline is.
        ours: runs ours; the whole of it is timed.
        theirs: runs the other; it is timed unless it returns its own seconds.
        better: whether a larger or a smaller measure is better.
        short: by how much ours may be worse, as a share of the other's measure.
    """

    about: str
    instead: str
    ours: Callable[[], float]
    theirs: Callable[[], float | Sample]
    better: Literal["larger", "smaller"]
    short: float


def figures(size: Size, work: Path) -> list[Figure]:
    """Measure each algorithm in turns with what would be taken instead."""
    sizes = _SIZES[size]
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    python = _peers()
    made = []
    for name, make in _MATCHES.items():
        folder = work / name
        folder.mkdir(parents=True)
        with threadpool_limits(limits=1):
            made += [_figure(match, sizes, size) for match in make(sizes, folder, python)]
    return made


def _figure(match: _Match, sizes: _Sizes, size: Size) -> Figure:
    note(f"{match.about}, beside {match.instead}")

    def timed(call: Callable[[], float | Sample]) -> Sample:
        began = time.perf_counter()
        measured = call()
        took = time.perf_counter() - began
        return measured if isinstance(measured, tuple) else (took, measured)

    if size is not Size.TINY:
        # What a first fit imports is not what is compared.
        match.ours()
    samples = interleave(
        {"ours": lambda: timed(match.ours), "theirs": lambda: timed(match.theirs)},
        repeats=sizes.repeats,
    )
    good, best = samples["ours"][0][1], samples["theirs"][0][1]
    behind = best - good if match.better == "larger" else good - best
    if size is not Size.TINY and not behind <= match.short * abs(best):
        raise AssertionError(f"{match.about}: {good:.4g}, and {match.instead}: {best:.4g}")
    return compare(
        f"{match.about} ({good:.4g}, the other {best:.4g})",
        "s",
        [seconds for seconds, _ in samples["ours"]],
        baseline=match.instead,
        baseline_values=[seconds for seconds, _ in samples["theirs"]],
    )


def _boosting(sizes: _Sizes, folder: Path, python: Path | None) -> list[_Match]:
    random = np.random.default_rng(3)
    count = sizes.of(1_000_000)
    rows = random.normal(size=(count + 1_000, 30)).astype(np.float32)
    target = rows[:, :8].sum(axis=1) + rows[:, 8] * rows[:, 9] + random.normal(size=len(rows))
    columns = {f"x{place}": np.ascontiguousarray(rows[:, place]) for place in range(30)}
    table = pa.table({"label": target.astype(np.float32), **columns})
    path = folder / "rows.parquet"
    pq.write_table(table.slice(0, count), path, compression="zstd")
    later, wanted = table.slice(count).drop_columns("label"), target[count:]

    def ours() -> float:
        data = read_dataset(path, channel="train", label="label")
        model = training.find_algorithm("xgboost").of({"num_round": 20}).fit(data, Run(threads=1))
        return metrics.rmse(wanted, model.predict(later)["score"].to_numpy())

    def theirs() -> float:
        read = pq.read_table(path)
        matrix = xgboost.QuantileDMatrix(
            read.drop_columns("label"), label=read["label"].to_numpy(), nthread=1
        )
        model = xgboost.train({"nthread": 1, "max_depth": 6}, matrix, num_boost_round=20)
        return metrics.rmse(wanted, model.inplace_predict(later.to_pandas()))

    about = f"xgboost: {count:,} × 30 from Parquet, 20 rounds, depth 6"
    return [_Match(about, "pyarrow and xgboost.train", ours, theirs, "smaller", 1e-5)]


def _neighbours(sizes: _Sizes, folder: Path, python: Path | None) -> list[_Match]:
    random = np.random.default_rng(4)
    count = sizes.of(100_000)
    centres = random.normal(0, 1, (50, 64))
    group = random.integers(0, 50, count + 1_000)
    rows = (centres[group] + random.normal(0, 2, (len(group), 64))).astype(np.float32)
    labels = (group % 10).astype(np.float64)
    table = _vectors(rows[:count], label=labels[:count])
    asked, wanted = rows[count:], labels[count:]
    values = {"feature_dim": 64, "k": 5, "sample_size": count, "predictor_type": "classifier"}

    def ours() -> float:
        data = Dataset.of(table, label="label")
        model = training.find_algorithm("knn").of(values).fit(data, Run(threads=1))
        given = model.predict(_vectors(asked))["predicted_label"].to_numpy()
        return float(np.mean(given == wanted))

    def theirs() -> float:
        index = faiss.IndexFlatL2(64)
        index.add(rows[:count])
        _, near = index.search(asked, 5)
        votes = np.stack([(labels[near] == one).sum(axis=1) for one in range(10)], axis=1)
        return float(np.mean(votes.argmax(axis=1) == wanted))

    about = f"knn: {count:,} × 64, 1,000 asked, k = 5, faiss.Flat, from Arrow to answers"
    return [_Match(about, "faiss.IndexFlatL2 called directly", ours, theirs, "larger", 0.03)]


def _forest(sizes: _Sizes, folder: Path, python: Path | None) -> list[_Match]:
    if python is None:
        return []
    random = np.random.default_rng(0)
    count = 20_000 if sizes.share > 0.1 else 1_000
    centres = random.normal(0, 2, (5, 10))
    rows = centres[random.integers(0, 5, count)] + random.normal(size=(count, 10))
    odd = np.zeros(count)
    odd[random.choice(count, count // 100, replace=False)] = 1
    for column in range(10):
        rows[odd == 1, column] = random.choice(rows[odd == 0, column], int(odd.sum()))
    rows = rows.astype(np.float32)
    train, later = np.split(rows, 2)
    np.save(folder / "train.npy", train)
    np.save(folder / "later.npy", later)
    is_odd = odd[len(train) :]

    def ours() -> float:
        forest = training.find_algorithm("randomcutforest").of({"feature_dim": 10})
        model = forest.fit(Dataset.of(_vectors(train), labels="optional"), Run(threads=1))
        return metrics.auc(is_odd, model.predict(_vectors(later))["score"].to_numpy())

    def theirs() -> Sample:
        seconds, scores = _elsewhere(python, "forest", folder)
        return seconds, metrics.auc(is_odd, scores)

    about = f"randomcutforest: 100 trees of 256, {len(train):,} × 10 learned and scored"
    return [_Match(about, "krcf 0.4, row by row", ours, theirs, "larger", 0.02)]


def _mixtures(sizes: _Sizes, folder: Path, python: Path | None) -> list[_Match]:
    random = np.random.default_rng(0)
    grid = np.zeros((10, 5, 5))
    for line in range(5):
        grid[line, line] = grid[5 + line, :, line] = 0.2
    topics = grid.reshape(10, 25)
    shares = random.dirichlet(np.full(10, 0.1), 3_000 if sizes.share > 0.1 else 300)
    counts = np.array([random.multinomial(150, share) for share in shares @ topics])
    np.save(folder / "train.npy", counts)
    wanted = {"topics": 10, "passes": 10}
    (folder / "topics.json").write_text(json.dumps(wanted), encoding="utf-8")
    values = {"num_topics": 10, "feature_dim": 25, "mini_batch_size": len(counts)}

    def apart(found: Array) -> float:
        """Return the mean L1 distance of topics matched with the true ones, at least the bar."""
        distance = np.stack([np.abs(topic - topics).sum(axis=1) for topic in found])
        return max(float(distance[linear_sum_assignment(distance)].mean()), 0.02)

    def ours() -> float:
        data = Dataset.of(_counted(counts), labels="optional")
        model = training.find_algorithm("lda").of(values).fit(data, Run(threads=1))
        return apart(model.beta)

    def variational() -> float:
        fitted = LatentDirichletAllocation(
            n_components=10, max_iter=100, learning_method="batch", random_state=0
        ).fit(csr_matrix(counts.astype(np.float64)))
        return apart(fitted.components_ / fitted.components_.sum(axis=1, keepdims=True))

    about = f"lda: 10 topics of {len(counts):,} documents × 150 words"
    made = [_Match(about, "scikit-learn, variational", ours, variational, "smaller", 0.1)]
    if python is not None:

        def online() -> Sample:
            seconds, found = _elsewhere(python, "topics", folder)
            return seconds, apart(found)

        made.append(_Match(about, "gensim.LdaModel, 10 passes", ours, online, "smaller", 0.1))
    return made


def _neural(sizes: _Sizes, folder: Path, python: Path | None) -> list[_Match]:
    random = np.random.default_rng(6)
    words, count = (4_258, 395) if sizes.share > 0.1 else (200, 100)
    topics = random.dirichlet(np.full(words, 0.02), 20)
    shares = random.dirichlet(np.full(20, 0.1), count) @ topics
    counts = np.array([random.multinomial(213, share) for share in shares])
    train, later = np.split(counts, [count * 4 // 5])
    epochs = 100
    values = {
        "feature_dim": words,
        "num_topics": 20,
        "encoder_layers": "100",
        "encoder_layers_activation": "tanh",
        "optimizer": "adam",
        "learning_rate": 0.005,
        "mini_batch_size": 64,
        "epochs": epochs,
        "num_patience_epochs": epochs,
    }

    def ours() -> float:
        data = Dataset.of(_counted(train), labels="optional")
        model = training.find_algorithm("ntm").of(values).fit(data, Run(threads=1))
        return float(model.losses(csr_matrix(later.astype(np.float64)))["total_loss"])

    def theirs() -> float:
        torch.manual_seed(0)
        module = plain_torch.Topics(words, 20, 100)
        optimizer = torch.optim.Adam(module.parameters(), 0.005, (0.9, 0.99))
        given = torch.tensor(train, dtype=torch.float32)
        plain_torch.train(module, [optimizer], module.loss, [given], epochs=epochs, batch_rows=64)
        with torch.no_grad():
            return float(module.loss(torch.tensor(later, dtype=torch.float32)))

    about = f"ntm: 20 topics of {len(train)} documents × {words:,} words, {epochs} epochs"
    instead = "the model in plain torch on dense counts"
    return [_Match(about, instead, ours, theirs, "smaller", 0.03)]


def _ratings(sizes: _Sizes) -> tuple[Array, Array, int]:
    """Make users, films and ratings; the last fifth is for measuring."""
    random = np.random.default_rng(5)
    count = 100_000 if sizes.share > 0.1 else 2_000
    popularity = 1 / np.arange(1, 1_683)
    user = random.integers(0, 943, count)
    film = random.choice(1_682, count, p=popularity / popularity.sum())
    taste = random.normal(0, 0.35, (943, 8)), random.normal(0, 0.5, (1_682, 8))
    score = 3.5 + random.normal(0, 0.4, 943)[user] + random.normal(0, 0.5, 1_682)[film]
    score += (taste[0][user] * taste[1][film]).sum(axis=1) + random.normal(0, 0.8, count)
    return np.stack([user, film], axis=1), score, count * 4 // 5


def _factors(sizes: _Sizes, folder: Path, python: Path | None) -> list[_Match]:
    pairs, rating, cut = _ratings(sizes)
    columns = pairs + np.array([0, 943])
    table = _looked_up(columns, rating, width=2_625)
    epochs = 5
    values = {
        "feature_dim": 2_625,
        "num_factors": 16,
        "predictor_type": "regressor",
        "epochs": epochs,
        "factors_init_sigma": 0.05,
        "factors_lr": 0.005,
        "factors_wd": 1.0,
        "linear_lr": 0.01,
        "linear_wd": 0.2,
    }

    def ours() -> float:
        data = Dataset.of(table.slice(0, cut), label="label")
        machines = training.find_algorithm("factorization-machines").of(values)
        model = machines.fit(data, Run(threads=1))
        later = table.slice(cut).drop_columns("label")
        return metrics.rmse(rating[cut:], model.predict(later)["score"].to_numpy())

    def theirs() -> float:
        torch.manual_seed(0)
        module = plain_torch.Factors(2_625, 16)
        optimizer = torch.optim.AdamW(module.parameters(), 0.005, weight_decay=0.1)
        rows = torch.from_numpy(columns), torch.tensor(rating, dtype=torch.float32)
        plain_torch.train(
            module,
            [optimizer],
            lambda given, wanted: functional.mse_loss(module(given), wanted),
            [tensor[:cut] for tensor in rows],
            epochs=epochs,
            batch_rows=1_000,
        )
        with torch.no_grad():
            return metrics.rmse(rating[cut:], module(rows[0][cut:]).double().numpy())

    about = f"factorization-machines: {cut:,} ratings, user and film, 16 factors, {epochs} epochs"
    instead = "the model in plain torch, tables dense to AdamW"
    return [_Match(about, instead, ours, theirs, "smaller", 0.05)]


def _pairs(sizes: _Sizes, folder: Path, python: Path | None) -> list[_Match]:
    pairs, rating, cut = _ratings(sizes)
    epochs = 4
    # Token 0 fills sequences up, so users and films begin at 1.
    tokens = pairs + 1
    offsets = pa.array(np.arange(len(pairs) + 1, dtype=np.int32))
    lists = [pa.ListArray.from_arrays(offsets, pa.array(one, pa.int32())) for one in tokens.T]
    table = pa.table({"label": rating, "in0": lists[0], "in1": lists[1]})
    values = {
        "enc0_max_seq_len": 1,
        "enc0_network": "pooled_embedding",
        "enc0_token_embedding_dim": 64,
        "enc0_vocab_size": 944,
        "enc1_vocab_size": 1_683,
        "mlp_layers": 1,
        "mlp_dim": 64,
        "mlp_activation": "tanh",
        "output_layer": "mean_squared_error",
        "dropout": 0.3,
        "learning_rate": 0.001,
        "weight_decay": 1e-5,
        "mini_batch_size": 512,
        "epochs": epochs,
    }

    def ours() -> float:
        data = Dataset.of(table.slice(0, cut), label="label")
        model = training.find_algorithm("object2vec").of(values).fit(data, Run(threads=1))
        given = model.predict(table.slice(cut).drop_columns("label"))["scores"]
        return metrics.rmse(rating[cut:], np.array(given.to_pylist())[:, 0])

    def theirs() -> float:
        torch.manual_seed(0)
        module = plain_torch.Pairs((944, 1_683), 64, 64, 0.3)
        optimizer = torch.optim.Adam(module.parameters(), 0.001, weight_decay=1e-5)
        rows = torch.from_numpy(tokens), torch.tensor(rating, dtype=torch.float32)
        plain_torch.train(
            module,
            [optimizer],
            lambda given, wanted: functional.mse_loss(module(given), wanted),
            [tensor[:cut] for tensor in rows],
            epochs=epochs,
            batch_rows=512,
        )
        with torch.no_grad():
            return metrics.rmse(rating[cut:], module(rows[0][cut:]).double().numpy())

    about = f"object2vec: {cut:,} pairs, d = 64 pooled, a layer of 64, {epochs} epochs"
    return [_Match(about, "the model in plain torch", ours, theirs, "smaller", 0.05)]


def _logins(sizes: _Sizes, folder: Path, python: Path | None) -> list[_Match]:
    count = sizes.of(48_000)
    events = make_logins(count + 4_000, seed=7, users=2_000, networks=100, most_homes=3)
    epochs = 5
    values = {
        "num_entity_vectors": 4_000,
        "vector_dim": 64,
        "epochs": epochs,
        "mini_batch_size": 1_000,
        "learning_rate": 0.005,
    }
    users, addresses = events["user"].to_pylist(), events["address"].to_pylist()
    random = np.random.default_rng(1)
    # Each login that is held out beside one of the same user from the address of another.
    held_out = np.arange(count, len(events))
    others = random.permutation(held_out)
    is_usual = np.repeat([1.0, 0.0], len(held_out))
    asked = pa.table(
        {
            "user": [users[row] for row in held_out] * 2,
            "address": [addresses[row] for row in (*held_out, *others)],
        }
    )

    def ours() -> float:
        data = Dataset.of(events.slice(0, count), labels="none", text="text")
        model = training.find_algorithm("ipinsights").of(values).fit(data, Run(threads=1))
        return metrics.auc(is_usual, model.predict(asked)["dot_product"].to_numpy())

    def theirs() -> float:
        torch.manual_seed(0)
        module = plain_torch.Logins(2_000, 64)
        entity = torch.tensor([int(user.removeprefix("user-")) for user in users])
        buckets = torch.from_numpy(plain_torch.prefix_buckets(addresses))
        drawn = random.integers(0, 256, (count, 4)).tolist()
        some = torch.from_numpy(plain_torch.prefix_buckets([".".join(map(str, a)) for a in drawn]))
        optimizers: list[torch.optim.Optimizer] = [
            torch.optim.SparseAdam(
                [module.entities.weight, module.prefixes.weight],
                0.005,
            ),
            torch.optim.Adam(module.layer.parameters(), 0.005),
        ]
        plain_torch.train(
            module,
            optimizers,
            lambda one, other: module.loss(one, other, some),
            [entity[:count], buckets[:count]],
            epochs=epochs,
            batch_rows=1_000,
        )
        with torch.no_grad():
            score = module(
                entity[np.tile(held_out, 2)], buckets[np.concatenate([held_out, others])]
            )
        return metrics.auc(is_usual, score.double().numpy())

    about = f"ipinsights: {count:,} logins, d = 64, {epochs} epochs"
    return [_Match(about, "the model in plain torch", ours, theirs, "larger", 0.01)]


_MATCHES: Final[Mapping[str, Callable[[_Sizes, Path, Path | None], list[_Match]]]] = {
    "xgboost": _boosting,
    "knn": _neighbours,
    "randomcutforest": _forest,
    "lda": _mixtures,
    "ntm": _neural,
    "factorization-machines": _factors,
    "object2vec": _pairs,
    "ipinsights": _logins,
}


def _vectors(rows: Array, *, label: Array | None = None) -> pa.Table:
    flat = pa.array(np.ascontiguousarray(rows).ravel())
    columns = {"x": pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])}
    return pa.table(columns if label is None else {"label": label, **columns})


def _counted(counts: Array) -> pa.Table:
    return _sparse(csr_matrix(counts), counts.shape[1], {})


def _looked_up(columns: Array, label: Array, *, width: int) -> pa.Table:
    rows = np.arange(0, columns.size + 1, columns.shape[1])
    ones = np.ones(columns.size)
    matrix = csr_matrix((ones, columns.ravel(), rows), shape=(len(columns), width))
    return _sparse(matrix, width, {"label": label})


def _sparse(matrix: Any, width: int, more: Mapping[str, Array]) -> pa.Table:
    offsets = pa.array(matrix.indptr.astype(np.int32))
    lists = (
        pa.ListArray.from_arrays(offsets, pa.array(matrix.indices.astype(np.int32))),
        pa.ListArray.from_arrays(offsets, pa.array(matrix.data.astype(np.float32))),
    )
    held = pa.StructArray.from_arrays(lists, fields=list(_SPARSE))
    size = {b"featureline.size": str(width)}
    fields = [pa.field(name, pa.from_numpy_dtype(array.dtype)) for name, array in more.items()]
    schema = pa.schema([*fields, pa.field("x", _SPARSE, metadata=size)])
    return pa.table([*more.values(), held], schema=schema)


def _elsewhere(python: Path, subject: str, folder: Path) -> tuple[float, Array]:
    """Return the seconds and the answers of a library in its own environment."""
    done = subprocess.run(
        [str(python), str(_SCRIPT), subject, str(folder)],
        check=True,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PATH": ""},
    )
    return json.loads(done.stdout)["seconds"], np.load(folder / "answers.npy")


def _peers() -> Path | None:
    """Return the Python of an environment with krcf and gensim, made when it can be; else None."""
    python = (ROOT / _ENVIRONMENT) / "bin" / "python"
    if not python.exists():
        note("installing krcf and gensim")
        commands = (
            [sys.executable, "-m", "venv", str(ROOT / _ENVIRONMENT)],
            [str(python), "-m", "pip", "install", "--quiet", *_PACKAGES],
        )
        for command in commands:
            if subprocess.run(command, check=False, capture_output=True).returncode:
                note("krcf and gensim could not be installed: their rows are left out")
                return None
    return python
