"""How Object2Vec is trained. Imports torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from training.algorithms.text.object2vec import scoring
from training.algorithms.text.object2vec.learner import inputs_of
from training.algorithms.text.object2vec.model import Object2VecModel
from training.algorithms.text.object2vec.module import Drawn, PairNetwork
from training.algorithms.text.object2vec.pretrained import read_vectors
from training.algorithms.text.object2vec.sequence import Sequences
from training.data import Dataset
from training.engine.row_adam import RowAdam
from training.engine.source import Index, Source
from training.engine.trainer import EarlyStopping, Moment, Plan, Trainer, deterministic
from training.errors import InvalidData
from training.negatives import shuffled
from training.run import Run

if TYPE_CHECKING:
    from training.algorithms.text.object2vec.learner import Object2Vec

__all__ = ["Pairs", "fit"]


@final
class Pairs(Source):
    """Pairs of sequences with their targets, in batches of like lengths where that is asked.

    Args:
        first: n sequences.
        second: n sequences.
        target: (n,).
        width: pairs of a batch differ by less in the longer of their lengths; 0: by any.
    """

    def __init__(
        self,
        first: Sequences,
        second: Sequences,
        target: npt.NDArray[Any],
        *,
        width: int = 0,
    ) -> None:
        self._first, self._second = first, second
        self._target = torch.from_numpy(target)
        longer = np.maximum(first.lengths, second.lengths)
        bucket = longer // width if width else np.zeros_like(longer)
        self._buckets = [np.flatnonzero(bucket == number) for number in np.unique(bucket)]

    def __len__(self) -> int:
        return len(self._target)

    def take(self, rows: Index) -> tuple[torch.Tensor, ...]:
        """Return padded tokens of both, and the targets."""
        return (
            torch.from_numpy(self._first.padded(rows)),
            torch.from_numpy(self._second.padded(rows)),
            self._target[torch.from_numpy(rows)],
        )

    def batches(self, size: int, order: np.random.Generator | None) -> Iterator[Index]:
        """Cut each bucket into batches, and give those of all buckets mixed."""
        batches = []
        for bucket in self._buckets:
            rows = bucket if order is None else order.permutation(bucket)
            batches += [rows[start : start + size] for start in range(0, len(rows), size)]
        places = range(len(batches)) if order is None else order.permutation(len(batches)).tolist()
        for place in places:
            yield batches[place]

    def count(self, size: int) -> int:
        """How many batches there are."""
        return sum(-(-len(bucket) // size) for bucket in self._buckets)


def fit(
    learner: Object2Vec, train: Dataset, run: Run, *, validation: Dataset | None
) -> Object2VecModel:
    """Train one network."""
    with deterministic(run):
        module = _module(learner, run).to(torch.device(str(run.device)))
    kind = np.int64 if learner.is_classifier else np.float32
    target = train.labels().astype(kind)
    source = Pairs(*learner.sequences(train), target, width=learner.bucket_width)
    held_out = None if validation is None else learner.sequences(validation)

    def loss(batch: tuple[torch.Tensor, ...], at: Moment) -> torch.Tensor:
        # With other rows' in1 the batch is all rows of the step, of which some are this process's.
        own = at.own if learner.negative_sampling_rate else slice(None)
        first, second = module.enc0(batch[0][own]), module.enc1(batch[1][own])
        wanted = [batch[2][own]]
        firsts, seconds = [first], [second]
        order = np.random.default_rng([run.seed, at.step, 1])
        for others in shuffled(at.rows, learner.negative_sampling_rate, order):
            places = torch.from_numpy(others[at.own]).to(second.device)
            alone = len(second) == at.rows
            firsts.append(first)
            seconds.append(second[places] if alone else module.enc1(batch[1][places]))
            wanted.append(torch.zeros_like(wanted[0]))
        outputs = module.compared(
            torch.cat(firsts), torch.cat(seconds), drawn=Drawn(at.rows, at.own, len(firsts))
        )
        if learner.is_classifier:
            return functional.cross_entropy(outputs, torch.cat(wanted))
        return functional.mse_loss(outputs[:, 0], torch.cat(wanted))

    def evaluate() -> Mapping[str, float]:
        if validation is None or held_out is None:
            return {}
        measured = learner.measured(validation.labels(), scoring.scores(module, *held_out))
        return {f"validation:{name}": value for name, value in measured.items()}

    metric = "cross_entropy" if learner.is_classifier else "mean_squared_error"
    stopping = EarlyStopping(
        metric="train:loss" if validation is None else f"validation:{metric}",
        patience=learner.early_stopping_patience,
        tolerance=learner.early_stopping_tolerance,
        # The loss of the rows it learns from is no reason to prefer an epoch.
        keep_best=validation is not None,
    )
    plan = Plan(
        epochs=learner.epochs,
        batch_rows=learner.mini_batch_size,
        optimizers=_optimizers(learner, module),
        stopping=stopping,
        identity={"hyperparameters": str(learner.values())},
        whole_batches=learner.negative_sampling_rate > 0,
    )
    Trainer(module, source, loss, plan, run, evaluate=evaluate).fit()
    weights = {name: held.cpu().numpy().copy() for name, held in module.state_dict().items()}
    return Object2VecModel(inputs_of(train), learner.architecture, weights)


def _module(learner: Object2Vec, run: Run) -> PairNetwork:
    """Return the network as it begins: anew, with pretrained vectors, or from a model."""
    architecture = learner.architecture
    options: dict[str, Any] = {
        "dropout": learner.dropout,
        "is_sparse": learner.token_embedding_storage_type == "row_sparse",
    }
    if run.start is not None:
        start = run.start
        if not isinstance(start, Object2VecModel):
            raise InvalidData(
                f"model: object2vec goes on from a model of object2vec, got {type(start).__name__}",
                channel="model",
            )
        differing = architecture.differing(start.architecture)
        if differing:
            raise InvalidData(
                f"model: the model to go on from differs in {', '.join(differing)}; train anew "
                "without it, or with its hyperparameters",
                channel="model",
            )
        module = scoring.module_of(architecture, start.weights, **options)
    else:
        module = PairNetwork(architecture, **options)
    for number, encoder in enumerate((module.enc0, module.enc1)):
        vectors: str | None = getattr(learner, f"enc{number}_pretrained_embedding_file")
        vocabulary: str | None = getattr(learner, f"enc{number}_vocab_file")
        if vectors is None or vocabulary is None:
            continue
        is_frozen: bool = getattr(learner, f"enc{number}_freeze_pretrained_embedding")
        if run.start is None:
            tokens, given = read_vectors(
                run.auxiliary,
                vectors=vectors,
                vocabulary=vocabulary,
                encoder=learner.encoder(number),
            )
            with torch.no_grad():
                if is_frozen:
                    # A token without a vector would keep its random one for ever.
                    encoder.tokens.weight.zero_()
                encoder.tokens.weight[torch.from_numpy(tokens)] = torch.from_numpy(given)
            run.sink.log(f"enc{number}: {len(tokens)} tokens have the vectors of {vectors!r}")
        if is_frozen:
            encoder.tokens.weight.requires_grad_(False)
    return module


def _optimizers(learner: Object2Vec, module: PairNetwork) -> list[torch.optim.Optimizer]:
    options: dict[str, Any] = {"lr": learner.learning_rate}
    kinds: Mapping[str, Any] = {
        "adadelta": torch.optim.Adadelta,
        "adagrad": torch.optim.Adagrad,
        "adam": torch.optim.Adam,
        "sgd": torch.optim.SGD,
        "rmsprop": torch.optim.RMSprop,
    }
    parameters = [p for p in module.parameters() if p.requires_grad]
    made = kinds[learner.optimizer]
    decay: dict[str, Any] = {"weight_decay": learner.weight_decay}
    if learner.token_embedding_storage_type == "dense":
        return [made(parameters, **options, **decay)]
    tables = [
        table
        for table in {
            id(e.tokens.weight): e.tokens.weight for e in (module.enc0, module.enc1)
        }.values()
        if table.requires_grad
    ]
    known = {id(table) for table in tables}
    rest = [parameter for parameter in parameters if id(parameter) not in known]
    dense = made(rest, **options, **decay)
    if not tables:
        return [dense]
    if learner.optimizer == "adam":
        return [dense, RowAdam(tables, **options, **decay)]
    # Torch's Adagrad makes sparse tensors and warns where nobody has said whether to check them.
    torch.sparse.check_sparse_tensor_invariants.disable()  # type: ignore[no-untyped-call]
    return [dense, made(tables, **options)]
