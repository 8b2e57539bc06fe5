"""TLS and SASL towards Kafka: from a TOML file or the environment, secrets never shown."""

from __future__ import annotations

import os
import ssl
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

from featurestore import InvalidRequest
from featurestore.errors import nearest

__all__ = ["MECHANISMS", "PROTOCOLS", "KafkaSecurity"]

PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")

_PREFIX: Final = "FEATURELINE_KAFKA_"
_PATHS: Final = ("ca", "certificate", "key", "key_password_file", "password_file", "token_file")
_NAMES: Final = (
    "protocol",
    *_PATHS,
    "key_password_env",
    "check_hostname",
    "mechanism",
    "username",
    "password_env",
)
_BOOLEANS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@final
@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """How to talk to the brokers: in the clear or with TLS, and as whom.

    Args:
        protocol: `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`, as the listener has it.
        ca: PEM file of the authorities to trust; None: the system's.
        certificate: PEM file of this client's certificate, where the brokers ask for one.
        key: PEM file of its key; None: in the certificate's file.
        key_password: of the key.
        check_hostname: whether the broker's certificate must name the host that was asked for.
        mechanism: `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`.
        username: for PLAIN and SCRAM.
        password: for PLAIN and SCRAM.
        token_file: for OAUTHBEARER: the file that always has a fresh token, read for every login.

    Raises:
        InvalidRequest: a choice is unknown, or what belongs together is not together.

    >>> KafkaSecurity("SASL_SSL", mechanism="PLAIN", username="ada", password="secret")
    KafkaSecurity(protocol='SASL_SSL', ca=None, certificate=None, key=None, check_hostname=True,
        mechanism='PLAIN', username='ada', token_file=None)
    """

    protocol: str = "PLAINTEXT"
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    key_password: str | None = field(default=None, repr=False)
    check_hostname: bool = True
    mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token_file: Path | None = None

    def __post_init__(self) -> None:
        _choose("protocol", self.protocol, PROTOCOLS)
        if self.is_sasl:
            _choose("mechanism", self.mechanism, MECHANISMS)
            if self.mechanism == "OAUTHBEARER":
                _need("token_file", self.token_file, "mechanism OAUTHBEARER")
            else:
                _need("username", self.username, f"mechanism {self.mechanism}")
                _need("password", self.password, f"mechanism {self.mechanism}")
        elif self.mechanism is not None:
            raise InvalidRequest(
                f"mechanism: {self.mechanism} needs protocol SASL_SSL or SASL_PLAINTEXT, got "
                f"{self.protocol}"
            )
        if not self.is_tls and (self.ca or self.certificate):
            raise InvalidRequest(
                f"ca, certificate: they need protocol SSL or SASL_SSL, got {self.protocol}"
            )
        if self.key is not None and self.certificate is None:
            raise InvalidRequest("key: expected a certificate beside it")

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.protocol in ("SSL", "SASL_SSL")

    @property
    def is_sasl(self) -> bool:
        """Whether this client has to say who it is."""
        return self.protocol.startswith("SASL_")

    @classmethod
    def from_file(
        cls, path: str | Path, *, environment: Mapping[str, str] | None = None
    ) -> KafkaSecurity:
        """Read a TOML file; paths in it are relative to its folder.

        Names as above, but for secrets: `password_file` or `password_env` (the name of a
        variable), and `key_password_file` or `key_password_env`.

        Args:
            path: the file.
            environment: where the named variables are looked up; default: this process's.

        Raises:
            InvalidRequest: it cannot be read, or says something unknown or incomplete.
        """
        path = Path(path)
        try:
            body = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidRequest(f"security file {path}: {error}") from error
        for secret in ("password", "key_password", "token"):
            if secret in body:
                raise InvalidRequest(
                    f"security file {path}: {secret}: a secret does not belong into this file; "
                    f"put it into a file of its own and name that as {secret}_file"
                    + ("" if secret == "token" else f", or name a variable as {secret}_env")
                )
        for name in body:
            if name not in _NAMES:
                raise InvalidRequest(
                    f"security file {path}: unknown setting {name!r}{nearest(name, _NAMES)}"
                )
        try:
            return cls._read(body, os.environ if environment is None else environment, path.parent)
        except InvalidRequest as error:
            raise InvalidRequest(f"security file {path}: {error}") from error

    @classmethod
    def found(
        cls, path: str | Path | None, *, environment: Mapping[str, str] | None = None
    ) -> KafkaSecurity:
        """Read a file, if one is named, else the environment; see the two other methods."""
        if path is not None:
            return cls.from_file(path, environment=environment)
        return cls.from_environment(environment)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> KafkaSecurity:
        """Read `FEATURELINE_KAFKA_…`; without any of them: in the clear.

        `FEATURELINE_KAFKA_SECURITY` names a file for `from_file` and stands for all the others.
        They are the file's names in capitals, and `FEATURELINE_KAFKA_PASSWORD` and
        `FEATURELINE_KAFKA_KEY_PASSWORD` hold the secrets themselves.

        Raises:
            InvalidRequest: as `from_file`.

        >>> KafkaSecurity.from_environment({"FEATURELINE_KAFKA_PROTOCOL": "SSL"}).is_tls
        True
        """
        environment = os.environ if environment is None else environment
        file = environment.get(f"{_PREFIX}SECURITY")
        if file:
            return cls.from_file(file, environment=environment)
        body: dict[str, Any] = {
            name: environment[f"{_PREFIX}{name.upper()}"]
            for name in _NAMES
            if environment.get(f"{_PREFIX}{name.upper()}")
        }
        for secret in ("password", "key_password"):
            if environment.get(f"{_PREFIX}{secret.upper()}"):
                body[f"{secret}_env"] = f"{_PREFIX}{secret.upper()}"
        said = body.get("check_hostname")
        if said is not None:
            if said.lower() not in _BOOLEANS:
                raise InvalidRequest(f"{_PREFIX}CHECK_HOSTNAME: expected true or false, got {said}")
            body["check_hostname"] = _BOOLEANS[said.lower()]
        if not body:
            return cls()
        try:
            return cls._read(body, environment, Path())
        except InvalidRequest as error:
            raise InvalidRequest(f"{_PREFIX}…: {error}") from error

    @classmethod
    def _read(
        cls, body: Mapping[str, Any], environment: Mapping[str, str], folder: Path
    ) -> KafkaSecurity:
        for name, value in body.items():
            kind = bool if name == "check_hostname" else str
            if not isinstance(value, kind):
                raise InvalidRequest(f"{name}: expected {kind.__name__}, got {value!r}")
        if "protocol" not in body:
            raise InvalidRequest(f"protocol: expected one of {', '.join(PROTOCOLS)}, got none")
        paths = {name: folder / body[name] for name in _PATHS if name in body}
        for name, path in paths.items():
            if not path.is_file():
                raise InvalidRequest(f"{name}: there is no file {path}")
        return cls(
            body["protocol"],
            ca=paths.get("ca"),
            certificate=paths.get("certificate"),
            key=paths.get("key"),
            key_password=_secret("key_password", body, paths, environment),
            check_hostname=body.get("check_hostname", True),
            mechanism=body.get("mechanism"),
            username=body.get("username"),
            password=_secret("password", body, paths, environment),
            token_file=paths.get("token_file"),
        )

    def token(self) -> str:
        """Read the OAUTHBEARER token as it is now.

        Raises:
            InvalidRequest: it cannot be read, or is empty.
        """
        assert self.token_file is not None
        try:
            token = self.token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"token_file: {error}") from error
        if not token:
            raise InvalidRequest(f"token_file: {self.token_file} is empty")
        return token

    def context(self) -> ssl.SSLContext:
        """Make the TLS context that the settings ask for.

        Raises:
            InvalidRequest: a file holds no certificate or key, or the key's password is wrong.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = self.check_hostname
        try:
            if self.ca is None:
                context.load_default_certs()
            else:
                context.load_verify_locations(self.ca)
        except (ssl.SSLError, OSError) as error:
            raise InvalidRequest(f"ca: {self.ca} has no certificate: {error}") from error
        if self.certificate is not None:
            # An empty answer instead of a question at the terminal, where a password is needed.
            password = self.key_password or ""
            try:
                context.load_cert_chain(self.certificate, self.key, lambda: password)
            except (ssl.SSLError, OSError) as error:
                raise InvalidRequest(
                    f"certificate, key: {self.certificate} and {self.key or 'the key in it'} "
                    f"cannot be used: {error}; expected PEM files that belong together, and "
                    f"key_password where the key has one"
                ) from error
        return context


def _secret(
    name: str,
    body: Mapping[str, Any],
    paths: Mapping[str, Path],
    environment: Mapping[str, str],
) -> str | None:
    file, variable = paths.get(f"{name}_file"), body.get(f"{name}_env")
    if file is not None and variable is not None:
        raise InvalidRequest(f"{name}_file, {name}_env: expected one of the two")
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"{name}_file: {file} cannot be read: {error}") from error
    if variable is not None:
        if not environment.get(variable):
            raise InvalidRequest(f"{name}_env: the variable {variable} is not set")
        return environment[variable]
    return None


def _choose(name: str, value: str | None, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidRequest(
            f"{name}: expected one of {', '.join(choices)}, got {value!r}"
            f"{nearest(value or '', choices)}"
        )


def _need(name: str, value: object, of: str) -> None:
    if not value:
        raise InvalidRequest(f"{name}: {of} needs one")
