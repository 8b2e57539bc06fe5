"""Models of scripts: the serving functions of SageMaker's containers, in the model's own code.

model_fn(model_dir)                                   loads the model; required
input_fn(body, content_type)                          default: text as numbers or JSON values
predict_fn(data, model)                               default: model.predict(data), or model(data)
output_fn(prediction, accept)                         default: JSON, JSON lines or CSV
transform_fn(model, body, content_type, accept)       in place of the last three

Each may take the context as one more argument. An answer may be a pair of body and content type.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import io
import json
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Self, final

import numpy as np

from training.errors import FitFailed, InvalidData, ModelNotFound
from training.formats import ContentType
from training.formats.text import rows_to_csv, to_json

__all__ = ["CODE", "Context", "ServedScript", "serves", "serving_module"]

CODE: Final = "code"
"""The folder in a model that has its code, as in SageMaker's model archives."""
_USUAL: Final = "inference.py"
_FUNCTIONS: Final = {
    "model_fn": 1,
    "input_fn": 2,
    "predict_fn": 2,
    "output_fn": 2,
    "transform_fn": 4,
}
_TEXT: Final = ("application/json", "application/jsonlines")


@final
@dataclass(frozen=True)
class Context:
    """What a serving function may ask about where it runs.

    Attributes:
        system_properties: `model_dir`, and `gpu_id`, which is None.
        manifest: of the model: nothing is in it.
    """

    system_properties: Mapping[str, Any]
    manifest: Mapping[str, Any] = field(default_factory=dict)


def serves(code: Path) -> bool:
    """Whether a module in a folder of code defines `model_fn`."""
    return any("model_fn" in _defined(path) for path in code.glob("*.py"))


def serving_module(code: Path) -> Path | None:
    """Find the module with serving functions in a folder of code; None where there is none.

    It is `inference.py`, else the only one that defines `model_fn`. Nothing is run to see that.

    Raises:
        ModelNotFound: several modules define it.
    """
    usual = code / _USUAL
    if usual.is_file() and "model_fn" in _defined(usual):
        return usual
    found = [path for path in sorted(code.glob("*.py")) if "model_fn" in _defined(path)]
    if len(found) > 1:
        names = " and ".join(path.name for path in found[:2])
        raise ModelNotFound(
            f"{code}: model_fn is defined in {names}; keep the serving functions in {_USUAL}",
            name=str(code),
        )
    return found[0] if found else None


@final
class ServedScript:
    """The serving functions of a model's code, with the model loaded.

    Args:
        functions: by name.
        model: what `model_fn` returned.
        context: passed to functions that take it.
        name: of the module, for errors.
    """

    def __init__(
        self,
        functions: Mapping[str, Callable[..., Any]],
        model: Any,
        context: Context,
        name: str,
    ) -> None:
        self._functions = functions
        self._model = model
        self._context = context
        self._name = name

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Import the code of a model's folder and load the model.

        Raises:
            ModelNotFound: it has no code with `model_fn`, or `transform_fn` beside the functions
                that it replaces.
            FitFailed: the code raised an error; the message has its place.
        """
        code = folder / CODE
        module = serving_module(code) if code.is_dir() else None
        if module is None:
            raise ModelNotFound(
                f"{folder} was made by a script without model_fn, so nothing here can load it: "
                "define model_fn(model_dir) in the script, or in an inference.py beside it, and "
                "train again; or read its files as the script wrote them",
                name=str(folder),
            )
        imported = _imported(module)
        functions = {
            name: found for name in _FUNCTIONS if callable(found := getattr(imported, name, None))
        }
        replaced = sorted(functions.keys() & {"input_fn", "predict_fn", "output_fn"})
        if "transform_fn" in functions and replaced:
            raise ModelNotFound(
                f"{module.name}: transform_fn stands in place of input_fn, predict_fn and "
                f"output_fn, and {', '.join(replaced)} is defined too; remove one of them",
                name=str(folder),
            )
        context = Context({"model_dir": str(folder), "gpu_id": None})
        script = cls(functions, None, context, module.name)
        script._model = script._call("model_fn", str(folder))
        return script

    def answer(self, body: bytes, content_type: str, accept: str) -> bytes:
        """Answer one request.

        Raises:
            InvalidData: a function raised an error, or the answer is neither text nor bytes.
        """
        kind = ContentType.parse(content_type).base
        given: str | bytes = body
        if kind in _TEXT or kind.startswith("text/"):
            try:
                given = body.decode("utf-8")
            except UnicodeDecodeError as error:
                raise InvalidData(f"expected {kind} in UTF-8: {error}") from error
        if "transform_fn" in self._functions:
            answer = self._call("transform_fn", self._model, given, content_type, accept)
        else:
            data = (
                self._call("input_fn", given, content_type)
                if "input_fn" in self._functions
                else _read(body, kind)
            )
            predicted = (
                self._call("predict_fn", data, self._model)
                if "predict_fn" in self._functions
                else self._predicted(data)
            )
            answer = (
                self._call("output_fn", predicted, accept)
                if "output_fn" in self._functions
                else _written(predicted, accept)
            )
        if isinstance(answer, tuple) and len(answer) == 2:
            answer, said = answer
            told = ContentType.parse(str(said)).base
            if told != ContentType.parse(accept).base:
                raise InvalidData(f"{self._name}: expected an answer of {accept}, got {said}")
        if isinstance(answer, str):
            return answer.encode()
        if isinstance(answer, bytes | bytearray):
            return bytes(answer)
        raise InvalidData(
            f"{self._name}: expected text or bytes from "
            f"{'transform_fn' if 'transform_fn' in self._functions else 'output_fn'}, got "
            f"{type(answer).__name__}"
        )

    def _predicted(self, data: Any) -> Any:
        predict = getattr(self._model, "predict", None) or self._model
        if not callable(predict):
            raise ModelNotFound(
                f"{self._name}: expected predict_fn, or a model with predict(data), got "
                f"{type(self._model).__name__}",
                name=self._name,
            )
        return self._guarded("predict", predict, data)

    def _call(self, name: str, *arguments: Any) -> Any:
        function = self._functions[name]
        # The context is one more argument, for functions that have a place for it.
        if _places(function) > _FUNCTIONS[name]:
            arguments = (*arguments, self._context)
        return self._guarded(name, function, *arguments)

    def _guarded(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except (InvalidData, ModelNotFound):
            raise
        except Exception as error:
            # A stranger's code may raise anything.
            kind = FitFailed if name == "model_fn" else InvalidData
            raise kind(f"{name}: {_explained(error)}") from error


def _defined(module: Path) -> set[str]:
    """Name the functions that a module defines or imports at its top, without running it."""
    try:
        body = ast.parse(module.read_bytes()).body
    except (SyntaxError, ValueError):
        return set()
    names: set[str] = set()
    for node in body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in node.names)
    return names


def _imported(path: Path) -> ModuleType:
    # The folder is a sealed model: bytecode in it would make it another one.
    sys.dont_write_bytecode = True
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    # A name of its own: what is called `train` or `inference` elsewhere stays.
    name = f"_served_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        # A stranger's code may raise anything.
        raise FitFailed(f"{path.name} cannot be imported: {_explained(error)}") from error
    return module


def _places(function: Callable[..., Any]) -> int:
    try:
        given = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 0
    return sum(one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in given)


def _explained(error: Exception) -> str:
    """Say an error with the last line of the script that it comes from."""
    text = f"{type(error).__name__}: {error}"
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__
        and "site-packages" not in frame.filename
        and "<frozen" not in frame.filename
    ]
    return f"{text} ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else text


def _read(body: bytes, kind: str) -> Any:
    """Read a request as the default `input_fn`: CSV and NPY as an array, JSON as its values."""
    try:
        match kind:
            case "text/csv":
                return np.loadtxt(io.BytesIO(body), delimiter=",", ndmin=2)
            case "application/json":
                return json.loads(body)
            case "application/jsonlines":
                return [json.loads(line) for line in body.splitlines() if line.strip()]
            case "application/x-npy":
                return np.load(io.BytesIO(body), allow_pickle=False)
    except ValueError as error:
        raise InvalidData(f"expected {kind}: {error}") from error
    raise InvalidData(f"{kind} needs an input_fn that reads it")


def _written(predicted: Any, accept: str) -> bytes:
    """Write a prediction as the default `output_fn`: one answer for each element."""
    values = predicted.tolist() if hasattr(predicted, "tolist") else predicted
    match ContentType.parse(accept).base:
        case "application/json":
            return to_json(values)
        case "application/jsonlines":
            return b"".join(to_json(value) + b"\n" for value in _listed(values))
        case "text/csv":
            return rows_to_csv(
                value if isinstance(value, list) else [value] for value in _listed(values)
            )
    raise InvalidData(f"{accept} needs an output_fn that writes it")


def _listed(values: Any) -> list[Any]:
    return values if isinstance(values, list) else [values]
