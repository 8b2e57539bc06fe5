"""One fit in several processes: each boosts on its own rows, and all make the same trees.

The library adds up histograms and metrics over the processes; a tracker in the process that starts
them tells them of each other. What each is to do comes in a folder, and its model goes there.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa

from training.algorithms.tabular.boosting.learner import XGBoost
from training.algorithms.tabular.boosting.matrix import library
from training.algorithms.tabular.boosting.model import XGBoostModel
from training.data import Dataset
from training.environment import thread_variables
from training.errors import InvalidData, InvalidJob, TrainingError
from training.run import MemorySink, Run

__all__ = ["Share", "fit_in_processes", "shares"]
