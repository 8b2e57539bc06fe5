"""Compressed values: what producers send comes back, and what would fill the memory does not."""

from __future__ import annotations

import contextlib
import gzip
import io
import sys
import zlib

import lz4.frame
import pytest
import snappy
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from kafka.codec import snappy_encode

from ingest import CompressedDecoder, JsonDecoder, JsonSchemaDecoder, Message, Undecodable


def zstd_without_size(data):
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


WRITERS = {
    "gzip": ("gzip", gzip.compress),
    "zlib": ("gzip", zlib.compress),
    "zstd": ("zstd", zstandard.ZstdCompressor().compress),
    "zstd without a size": ("zstd", zstd_without_size),
    "lz4": ("lz4", lz4.frame.compress),
    "snappy": ("snappy", snappy.compress),
    "snappy of Java": ("snappy", snappy_encode),
}


def decode(compression, value, **options):
    decoder = CompressedDecoder(JsonDecoder(), compression, **options)
    return decoder.decode(Message("0", 0, value))


@pytest.mark.parametrize("writer", WRITERS)
@given(text=st.text(max_size=2000), repeats=st.sampled_from([1, 100]))
def test_every_value_comes_back(writer, text, repeats):
    compression, compress = WRITERS[writer]
    data = b'{"a": "%s"}' % (text.encode(errors="replace").hex().encode() * repeats)
    assert decode(compression, compress(data)) == JsonDecoder().decode(Message("0", 0, data))


@pytest.mark.parametrize("writer", WRITERS)
def test_a_bomb_is_refused(writer):
    compression, compress = WRITERS[writer]
    data = b" " * 2_000_000 + b"{}"
    bomb = compress(data)
    with pytest.raises(Undecodable, match="at most 1000 bytes when decompressed, got more, of"):
        decode(compression, bomb, max_bytes=1000)
    with pytest.raises(Undecodable, match="when decompressed"):
        decode(compression, bomb, max_bytes=len(data) - 1)
    assert decode(compression, bomb, max_bytes=len(data)) == {}


@pytest.mark.parametrize("writer", WRITERS)
def test_damage_is_refused(writer):
    compression, compress = WRITERS[writer]
    value = compress(b'{"abc": "%s"}' % (b"0123456789" * 20))
    for damaged in (b"", value[:1], value[: len(value) // 2], value[:-1], value + b"xx", b"{}"):
        with pytest.raises(Undecodable):
            decode(compression, damaged)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "lz4", "snappy"])
@given(value=st.binary(max_size=100))
def test_any_bytes_are_decoded_or_refused(compression, value):
    with contextlib.suppress(Undecodable):
        decode(compression, value)


def test_members_and_frames_one_after_another():
    assert decode("gzip", gzip.compress(b'{"a"') + gzip.compress(b": 1}")) == {"a": 1}
    compress = zstandard.ZstdCompressor().compress
    assert decode("zstd", compress(b'{"a"         ') + compress(b": 1}         ")) == {"a": 1}
    compress = lz4.frame.compress
    assert decode("lz4", compress(b'{"a"') + compress(b": 1}")) == {"a": 1}
    with pytest.raises(Undecodable, match="when decompressed"):
        decode("gzip", gzip.compress(b" " * 600) * 2, max_bytes=1000)


def test_snappys_framing_format_is_told():
    framed = io.BytesIO()
    snappy.stream_compress(io.BytesIO(b"{}"), framed)
    with pytest.raises(Undecodable, match="the framing format, which is not read"):
        decode("snappy", framed.getvalue())


@pytest.mark.parametrize("writer", ["zstd", "zstd without a size", "lz4"])
def test_without_the_extra_the_same_comes_slower(writer, monkeypatch):
    for library in ("zstandard", "lz4", "lz4.frame"):
        monkeypatch.setitem(sys.modules, library, None)
    compression, compress = WRITERS[writer]
    value = compress(b'{"a": 1}' + b" " * 5000)
    assert decode(compression, value) == {"a": 1}
    for refused, limit in ((value, 1000), (value[:-1], 10_000), (b"", 10), (value + b"x", 10_000)):
        with pytest.raises(Undecodable):
            decode(compression, refused, max_bytes=limit)


def test_values_that_are_none_or_rows():
    with pytest.raises(Undecodable, match="expected a JSON object, got no value"):
        decode("gzip", None)
    with pytest.raises(Undecodable, match="expected bytes compressed by gzip, got a row"):
        decode("gzip", {"a": 1})


def test_the_inner_decoders_mapping_and_schema_are_this_ones(registry, wire, message):
    number = registry.register("compressed", '{"type": "object"}', kind="JSON")
    inner = JsonSchemaDecoder({"x": "a"}, registry=registry)
    decoder = CompressedDecoder(inner, "gzip")
    sent = message(gzip.compress(wire(number, b'{"a": 1, "b": 2}')))
    assert decoder.mapping == {"x": "a"}
    assert decoder.decode(sent) == {"x": 1}
    assert decoder.schema_of(sent) == f"schema {number} (compressed version 1)"
    assert decoder.schema_of(message(b"junk")) is None


def test_wrong_arguments():
    with pytest.raises(ValueError, match="expected one of gzip, zstd, lz4, snappy, got 'bzip2'"):
        CompressedDecoder(JsonDecoder(), "bzip2")
    with pytest.raises(ValueError, match="max_bytes: expected at least 1, got 0"):
        CompressedDecoder(JsonDecoder(), "gzip", max_bytes=0)
