"""A small fit of the trainer, in this process, or as one to be killed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.engine.source import Arrays
from training.engine.trainer import History, Moment, Plan, Trainer, deterministic
from training.run import Run

__all__ = ["EPOCHS", "fit"]

EPOCHS = 5


def fit(
    run: Run,
    *,
    epochs: int = EPOCHS,
    of: int | None = None,
    dropout: float = 0.1,
    scale: float = 1.0,
    pause_s: float = 0.0,
    watch: Callable[[Any], None] = lambda module: None,
    **options: Any,
) -> tuple[Any, History]:
    """Fit a network with dropout to 203 rows, in batches of 64, 64, 64 and 11."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(203, 3)).astype(np.float32)
    target = (inputs @ [1.0, -2.0, 3.0] * scale).astype(np.float32)
    device = torch.device(str(run.device))
    with deterministic(run):
        module = torch.nn.Sequential(
            torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Dropout(dropout), torch.nn.Linear(8, 1)
        ).to(device)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)

    def loss(batch: tuple[torch.Tensor, ...], at: Moment) -> torch.Tensor:
        if pause_s:
            time.sleep(pause_s)
        return torch.nn.functional.mse_loss(module(batch[0])[:, 0], batch[1])

    def evaluate() -> Mapping[str, float]:
        answered = module(torch.from_numpy(inputs).to(device))[:, 0].cpu().numpy()
        return {"validation:mse": float(np.mean((answered - target) ** 2))}

    plan = Plan(
        epochs=epochs,
        batch_rows=64,
        optimizers=[optimizer],
        schedulers=[scheduler],
        after_step=lambda at: watch(module),
        identity={"epochs": of or epochs},
        **options,
    )
    trainer = Trainer(module, Arrays(inputs, target), loss, plan, run, evaluate=evaluate)
    return module, trainer.fit()


def main(arguments: list[str]) -> None:
    """Fit slowly with checkpoints."""
    fit(Run(threads=1, checkpoints=Path(arguments[0]), checkpoint_every_s=0), pause_s=0.1)


if __name__ == "__main__":
    main(sys.argv[1:])
