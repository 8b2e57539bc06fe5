"""Charts as SVG text: lines, bars, points and a matrix of counts."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["bars", "lines", "matrix", "points"]

Array = npt.NDArray[Any]

_WIDTH: Final = 460
_HEIGHT: Final = 300
_LEFT: Final = 62
_RIGHT: Final = 14
_TOP: Final = 14
_BOTTOM: Final = 44
_COLOURS: Final = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2")
_MOST_POINTS: Final = 400


def lines(
    series: Mapping[str, tuple[Array, Array]],
    *,
    x: str,
    y: str,
    diagonal: bool = False,
    bounds: tuple[float, float, float, float] | None = None,
) -> str:
    """Draw lines through points.

    Args:
        series: name → the x and y of its points; values that are no finite number are left out.
        x: what the axis is.
        y: what the axis is.
        diagonal: whether to draw the line of equal x and y, such as of guesses.
        bounds: left, right, bottom, top; None: those of the points.
    """
    kept = {name: _finite(*xy) for name, xy in series.items()}
    frame = _Frame.around(list(kept.values()), bounds)
    parts = [frame.axes(x, y)]
    if diagonal:
        corner = frame.path(
            np.array([frame.left, frame.right]), np.array([frame.bottom, frame.top])
        )
        parts.append(f'<path d="{corner}" class="guess"/>')
    for number, (name, (xs, ys)) in enumerate(kept.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        xs, ys = _thinned(xs, ys)
        parts.append(f'<path d="{frame.path(xs, ys)}" fill="none" stroke="{colour}"/>')
        if len(xs) == 1:
            parts.append(frame.dot(xs[0], ys[0], colour))
        if len(kept) > 1:
            at = _TOP + 14 + 16 * number
            label = html.escape(name)
            parts.append(
                f'<text x="{_WIDTH - _RIGHT - 6}" y="{at}" text-anchor="end" '
                f'style="fill: {colour}">'
                f"{label}</text>"
            )
    return _svg(parts, f"{y} by {x}")


def points(xs: Array, ys: Array, *, x: str, y: str) -> str:
    """Draw points, and the line on which x and y are equal; at most some hundred of them."""
    xs, ys = _finite(xs, ys)
    step = max(1, len(xs) // _MOST_POINTS)
    xs, ys = xs[::step], ys[::step]
    low, high = _range(np.concatenate([xs, ys]))
    frame = _Frame(low, high, low, high)
    corner = frame.path(np.array([low, high]), np.array([low, high]))
    parts = [frame.axes(x, y), f'<path d="{corner}" class="guess"/>']
    parts += [frame.dot(a, b, _COLOURS[0]) for a, b in zip(xs, ys, strict=True)]
    return _svg(parts, f"{y} by {x}")


def bars(values: Mapping[str, float], *, x: str) -> str:
    """Draw one bar for each name, in the given order, beginning at zero."""
    most = max((abs(value) for value in values.values()), default=0.0) or 1.0
    row, left = 20, 170
    width = _WIDTH - left - 70
    parts = []
    for number, (name, value) in enumerate(values.items()):
        top = 8 + number * row
        short = name if len(name) <= 26 else name[:25] + "…"
        parts.append(
            f'<text x="{left - 6}" y="{top + 13}" text-anchor="end">{html.escape(short)}'
            f"<title>{html.escape(name)}</title></text>"
            f'<rect x="{left}" y="{top + 3}" width="{width * abs(value) / most:.1f}" '
            f'height="{row - 6}" fill="{_COLOURS[0]}"/>'
            f'<text x="{left + width * abs(value) / most + 5:.1f}" y="{top + 13}">'
            f"{_number(value)}</text>"
        )
    return _svg(parts, x, height=16 + row * len(values))


def matrix(counts: Array, names: Sequence[str], *, x: str, y: str) -> str:
    """Draw a matrix of counts, darker where there are more of a row's; the diagonal is right."""
    size = len(names)
    cell = min(64, 300 // max(size, 1))
    left, top = 90, 34
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    parts = [
        f'<text x="{left + size * cell / 2}" y="12" text-anchor="middle">{html.escape(x)}</text>',
        f'<text x="8" y="{top + size * cell / 2}">{html.escape(y)}</text>',
    ]
    for i in range(size):
        middle = i * cell + cell / 2
        name = html.escape(str(names[i]))
        parts.append(
            f'<text x="{left + middle}" y="{top - 6}" text-anchor="middle">{name}</text>'
            f'<text x="{left - 6}" y="{top + middle + 4}" text-anchor="end">{name}</text>'
        )
        for j in range(size):
            share = float(shares[i, j])
            colour = _COLOURS[0] if i == j else _COLOURS[3]
            dark = ' style="fill: #fff"' if share > 0.55 else ""
            text = f"{int(counts[i, j]):,}" if cell >= 26 else ""
            parts.append(
                f'<rect x="{left + j * cell}" y="{top + i * cell}" width="{cell - 1}" '
                f'height="{cell - 1}" fill="{colour}" fill-opacity="{0.06 + 0.94 * share:.3f}">'
                f"<title>{y} {name}, {x} {html.escape(str(names[j]))}: "
                f"{int(counts[i, j]):,}</title></rect>"
                f'<text x="{left + j * cell + cell / 2}" y="{top + middle + 4}" '
                f'text-anchor="middle"{dark}>{text}</text>'
            )
    return _svg(parts, f"{y} and {x}", height=top + size * cell + 10)


class _Frame:
    """Axes, and where a value lies between them."""

    def __init__(self, left: float, right: float, bottom: float, top: float) -> None:
        self.left, self.right, self.bottom, self.top = left, right, bottom, top

    @classmethod
    def around(
        cls,
        series: Sequence[tuple[Array, Array]],
        bounds: tuple[float, float, float, float] | None,
    ) -> _Frame:
        if bounds is not None:
            return cls(*bounds)
        xs = np.concatenate([xy[0] for xy in series]) if series else np.zeros(1)
        ys = np.concatenate([xy[1] for xy in series]) if series else np.zeros(1)
        return cls(*_range(xs), *_range(ys))

    def x(self, value: float) -> float:
        share = (value - self.left) / (self.right - self.left)
        return float(_LEFT + share * (_WIDTH - _LEFT - _RIGHT))

    def y(self, value: float) -> float:
        share = (value - self.bottom) / (self.top - self.bottom)
        return float(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM))

    def path(self, xs: Array, ys: Array) -> str:
        pairs = zip(xs.tolist(), ys.tolist(), strict=True)
        return "M" + "L".join(f"{self.x(a):.1f} {self.y(b):.1f}" for a, b in pairs)

    def dot(self, x: float, y: float, colour: str) -> str:
        at = f'cx="{self.x(x):.1f}" cy="{self.y(y):.1f}"'
        return f'<circle {at} r="2.5" fill="{colour}" fill-opacity="0.6"/>'

    def axes(self, x: str, y: str) -> str:
        base, start = _HEIGHT - _BOTTOM, _LEFT
        parts = []
        for value in _ticks(self.left, self.right):
            at = self.x(value)
            parts.append(
                f'<line x1="{at:.1f}" y1="{_TOP}" x2="{at:.1f}" y2="{base}" class="grid"/>'
                f'<text x="{at:.1f}" y="{base + 16}" text-anchor="middle">{_number(value)}</text>'
            )
        for value in _ticks(self.bottom, self.top):
            at = self.y(value)
            parts.append(
                f'<line x1="{start}" y1="{at:.1f}" x2="{_WIDTH - _RIGHT}" y2="{at:.1f}" '
                f'class="grid"/>'
                f'<text x="{start - 6}" y="{at + 4:.1f}" text-anchor="end">{_number(value)}</text>'
            )
        middle = (_TOP + base) / 2
        parts.append(
            f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">'
            f"{html.escape(x)}</text>"
            f'<text x="12" y="{middle}" text-anchor="middle" '
            f'transform="rotate(-90 12 {middle})">{html.escape(y)}</text>'
        )
        return "".join(parts)


def _finite(xs: Array, ys: Array) -> tuple[Array, Array]:
    xs, ys = np.asarray(xs, np.float64), np.asarray(ys, np.float64)
    kept = np.isfinite(xs) & np.isfinite(ys)
    return xs[kept], ys[kept]


def _thinned(xs: Array, ys: Array) -> tuple[Array, Array]:
    if len(xs) <= _MOST_POINTS:
        return xs, ys
    kept = np.unique(np.linspace(0, len(xs) - 1, _MOST_POINTS).astype(np.int64))
    return xs[kept], ys[kept]


def _range(values: Array) -> tuple[float, float]:
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if low == high:
        around = abs(low) / 2 or 0.5
        return low - around, high + around
    return low, high


def _ticks(low: float, high: float) -> list[float]:
    """Return round values between two, about five of them."""
    rough = (high - low) / 5
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * by for by in (1, 2, 5, 10) if size * by >= rough)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _number(value: float) -> str:
    return f"{value:.4g}"


def _svg(parts: Sequence[str], title: str, *, height: float = _HEIGHT) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img">'
        f"<title>{html.escape(title)}</title>{''.join(parts)}</svg>"
    )
