"""The sums over rows that PCA needs: exact, sketched, or times a basis; all merge by addition.

Each row x comes with a weight w, which is 1 for a row of data. The mean of the rows is Σwx / Σw²,
and their scatter Σ(x - wm)(x - wm)ᵀ. So a fitted model counts as a few rows more: s·v for each of
its components with w = 0, and √n·m with w = √n.

Sums are of z = x - w·shift for a fixed shift near the mean, so that numbers far from zero do not
cancel each other out. Sparse rows keep shift 0 and are centred by algebra alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt

from training.algorithms.distance import blocks, is_csr, product
from training.algorithms.signs import signs
from training.device import CPU, Device

__all__ = ["Image", "Level", "Sketch"]

Floats = npt.NDArray[np.float64]


@final
class Level:
    """How many rows there are, what they add up to, and how long they are.

    Attributes:
        shift: (d), what each row was moved by.
        count: Σw².
        total: (d), Σwz.
        energy: Σ|z|².
    """

    def __init__(self, shift: Floats) -> None:
        self.shift = shift
        self.count = 0.0
        self.total = np.zeros(len(shift))
        self.energy = 0.0

    @property
    def mean(self) -> Floats:
        """The mean of the rows."""
        mean: Floats = self.shift + self.total / self.count
        return mean

    def moved(self, rows: Any, weights: Floats) -> Any:
        """Return rows in double precision, moved by the shift, and count them in."""
        if is_csr(rows):
            z = rows.astype(np.float64)
            self.energy += float((z.data**2).sum())
        else:
            plain = bool((weights == 1).all())
            z = rows - (self.shift if plain else weights[:, None] * self.shift)
            self.energy += float(np.einsum("ij,ij->", z, z))
        self.count += float(weights @ weights)
        self.total += weights @ z
        return z

    def variance(self, *, centred: bool) -> float:
        """Return the sum of squares, of distances to the mean where centred."""
        return self.energy - float(self.total @ self.total) / self.count * centred

    def plus(self, other: Level, by: Floats) -> Level:
        """Return both together; `by` is how far the other's shift is from this one's."""
        both = Level(self.shift)
        both.count = self.count + other.count
        both.total = self.total + other.total + other.count * by
        moved = 2 * float(by @ other.total) + other.count * float(by @ by)
        both.energy = self.energy + other.energy + moved
        return both

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the sums for a checkpoint."""
        return {"level": np.array([self.count, self.energy]), "total": self.total}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take the sums of a checkpoint."""
        self.count, self.energy = (float(value) for value in arrays["level"])
        self.total = arrays["total"].copy()


@final
class Image:
    """The scatter of rows times a basis: Σz(zᵀQ); without a basis the scatter itself.

    Args:
        shift: (d), what rows are moved by.
        basis: Q (d, l); None: the identity.
        device: where dense rows are multiplied.
    """

    def __init__(self, shift: Floats, basis: Floats | None = None, *, device: Device = CPU) -> None:
        self.level = Level(shift)
        self.basis = basis
        self.image = np.zeros((len(shift), len(shift) if basis is None else basis.shape[1]))
        self._device = device

    def add(self, rows: Any, weights: Floats, first: int) -> None:
        """Add rows."""
        for at in _pieces(rows):
            z = self.level.moved(rows[at], weights[at])
            if self.basis is not None:
                self.image += product(z.T, product(z, self.basis, self._device), self._device)
            elif is_csr(z):
                squares = (z.T @ z).tocoo()
                self.image[squares.row, squares.col] += squares.data
            else:
                self.image += product(z.T, z, self._device)

    def plus(self, other: Image) -> Image:
        """Return the sums of both's rows; the basis is the same.

        >>> left, right = Image(np.zeros(1)), Image(np.ones(1))
        >>> left.add(np.array([[2.0]]), np.ones(1), 0)
        >>> right.add(np.array([[4.0], [6.0]]), np.ones(2), 1)
        >>> left.plus(right).scatter(centred=True), left.plus(right).level.mean
        (array([[8.]]), array([4.]))
        """
        by = other.level.shift - self.level.shift
        both = Image(self.level.shift, self.basis, device=self._device)
        both.level = self.level.plus(other.level, by)
        along = by if self.basis is None else by @ self.basis
        total = other.level.total
        heading = total if self.basis is None else total @ self.basis
        moved = np.outer(total + other.level.count * by, along) + np.outer(by, heading)
        both.image = self.image + other.image + moved
        return both

    def scatter(self, *, centred: bool) -> Floats:
        """Return the scatter times the basis, about the mean where centred, else about zero."""
        if not centred:
            return self.image
        total = self.level.total
        along = total if self.basis is None else total @ self.basis
        scatter: Floats = self.image - np.outer(total, along) / self.level.count
        return scatter

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the sums for a checkpoint."""
        found = {"image": self.image, **self.level.arrays()}
        return found if self.basis is None else {**found, "basis": self.basis}

    @classmethod
    def of(
        cls, arrays: Mapping[str, npt.NDArray[Any]], shift: Floats, *, device: Device = CPU
    ) -> Self:
        """Make the sums of a checkpoint."""
        made = cls(shift, arrays.get("basis"), device=device)
        made.image = arrays["image"].copy()
        made.level.restore(arrays)
        return made


@final
class Sketch:
    """Rows added up with random signs: H·Z, where each row has a column of H of its own.

    The signs follow from the seed and the row's number, so neither the cut into batches nor the
    number of workers changes them.

    Args:
        shift: (d), what rows are moved by.
        size: l, the rows of H.
        seed: of the signs.
        device: where dense rows are multiplied.
    """

    def __init__(self, shift: Floats, size: int, seed: int, *, device: Device = CPU) -> None:
        self.level = Level(shift)
        self.sketched = np.zeros((size, len(shift)))
        self.hashed = np.zeros(size)
        self._seed = seed
        self._device = device

    def add(self, rows: Any, weights: Floats, first: int) -> None:
        """Add rows, numbered from `first`."""
        hashes = signs(self._seed, first, len(weights), len(self.hashed))
        self.hashed += weights @ hashes
        for at in _pieces(rows):
            z = self.level.moved(rows[at], weights[at])
            self.sketched += product(z.T, hashes[at], self._device).T

    def plus(self, other: Sketch) -> Sketch:
        """Return the sums of both's rows, which have numbers of their own and the same seed."""
        by = other.level.shift - self.level.shift
        both = Sketch(self.level.shift, len(self.hashed), self._seed, device=self._device)
        both.level = self.level.plus(other.level, by)
        both.sketched = self.sketched + other.sketched + np.outer(other.hashed, by)
        both.hashed = self.hashed + other.hashed
        return both

    def rows(self, *, centred: bool) -> Floats:
        """Return the sketch (l, d), of the distances to the mean where centred."""
        if not centred:
            return self.sketched
        drift = np.outer(self.hashed, self.level.total) / self.level.count
        rows: Floats = self.sketched - drift
        return rows

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the sums for a checkpoint."""
        return {"sketched": self.sketched, "hashed": self.hashed, **self.level.arrays()}

    @classmethod
    def of(
        cls,
        arrays: Mapping[str, npt.NDArray[Any]],
        shift: Floats,
        seed: int,
        *,
        device: Device = CPU,
    ) -> Self:
        """Make the sums of a checkpoint."""
        made = cls(shift, len(arrays["hashed"]), seed, device=device)
        made.sketched, made.hashed = arrays["sketched"].copy(), arrays["hashed"].copy()
        made.level.restore(arrays)
        return made


def _pieces(rows: Any) -> Iterator[slice]:
    """Cut rows so that those in double precision stay in a core's cache while they are used."""
    if is_csr(rows):
        return iter([slice(0, rows.shape[0])])
    return blocks(len(rows), rows.shape[1], cells=1 << 16, least=1024)
