"""What an Object2Vec network is made of, as plain values that a model keeps."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal, Self, final

__all__ = ["Architecture", "Comparator", "Encoder", "Network"]

Network = Literal["hcnn", "bilstm", "pooled_embedding"]
_NAMED: Final = {
    "filter_width": "cnn_filter_width",
    "token_dim": "token_embedding_dim",
    "is_tied": "tied_token_embedding_weight",
    "comparators": "comparator_list",
    "outputs": "num_classes",
    "is_classifier": "output_layer",
}
"""The hyperparameters that have other names than what they decide here."""

Comparator = Literal["hadamard", "concat", "abs_diff"]


@final
@dataclass(frozen=True, kw_only=True)
class Encoder:
    """One of the two encoders.

    Attributes:
        network: what makes one vector of the tokens' vectors.
        layers: of the network; 0 for `pooled_embedding`.
        filter_width: tokens that a convolution sees.
        token_dim: dimensions of a token's vector.
        vocab_size: tokens are 0 to this less 1.
        max_seq_len: tokens after so many are not looked at.
        size: dimensions of the vector it makes.
    """

    network: Network
    layers: int
    filter_width: int
    token_dim: int
    vocab_size: int
    max_seq_len: int
    size: int


@final
@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The whole network.

    Attributes:
        encoders: of `in0` and of `in1`.
        is_tied: whether both have one table of tokens' vectors.
        comparators: what is made of the two vectors, in this order.
        mlp_layers: hidden layers over that.
        mlp_dim: the dimensions of each.
        mlp_activation: after each.
        outputs: classes, or 1 for a value.
        is_classifier: whether the outputs are classes.
    """

    encoders: tuple[Encoder, Encoder]
    is_tied: bool
    comparators: tuple[Comparator, ...]
    mlp_layers: int
    mlp_dim: int
    mlp_activation: str
    outputs: int
    is_classifier: bool

    @property
    def compared(self) -> int:
        """How many numbers the comparators make."""
        sizes = {"hadamard": 1, "abs_diff": 1, "concat": 2}
        return self.encoders[0].size * sum(sizes[name] for name in self.comparators)

    def differing(self, other: Architecture) -> tuple[str, ...]:
        """Name what another network does not have in common, by the hyperparameters' names."""
        names = [
            f"enc{number}_{_NAMED.get(field.name, field.name)}"
            if field.name != "size"
            else "enc_dim"
            for number, (one, its) in enumerate(zip(self.encoders, other.encoders, strict=True))
            for field in fields(Encoder)
            if getattr(one, field.name) != getattr(its, field.name)
        ]
        names += [
            _NAMED.get(field.name, field.name)
            for field in fields(self)
            if field.name != "encoders" and getattr(self, field.name) != getattr(other, field.name)
        ]
        return tuple(dict.fromkeys(names))

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Self:
        """Read what `to_json` returned."""
        first, second = (Encoder(**one) for one in body["encoders"])
        rest = {**body, "encoders": (first, second), "comparators": tuple(body["comparators"])}
        return cls(**rest)
