"""Small programs of the user's, as jobs of a home."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training import Channel, ResourceConfig, TrainingJob, script_hyperparameters

MakeProgram = Callable[..., TrainingJob]


def program_maker(folder: Path) -> MakeProgram:
    """Return what makes a job of a program's text; its data is one small file."""
    numbers = itertools.count()
    data = folder / "program-data"
    data.mkdir()
    (data / "rows.csv").write_text("1,2\n")

    def make(
        text: str,
        name: str,
        *,
        channels: list[Channel] | None = None,
        values: dict[str, Any] | None = None,
        threads: int = 1,
        hosts: int = 1,
        memory_mb: int = 0,
        **fields: Any,
    ) -> TrainingJob:
        source = folder / f"source-{next(numbers)}" / "train.py"
        source.parent.mkdir()
        source.write_text(text)
        return TrainingJob(
            training_job_name=name,
            algorithm_name="script",
            hyper_parameters=script_hyperparameters(source) | (values or {}),
            input_data_config=channels or [Channel(channel_name="train", path=str(data))],
            resource_config=ResourceConfig(
                threads=threads, device="cpu", instance_count=hosts, memory_mb=memory_mb
            ),
            **fields,
        )

    return make
