"""Tracking: any function or stretch of a program recorded as a job."""

from __future__ import annotations

import atexit
import dataclasses
import functools
import hashlib
import inspect
import os
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Final, Self, final, get_args, get_origin, get_type_hints

from lineage.association import AssociationType
from lineage.capture.carried import Carried
from lineage.capture.content import as_artifact, as_content
from lineage.capture.recorder import Recorder, RecordsLineage
from lineage.column import ColumnEdge
from lineage.entity import End, Entity, Kind, plain_json
from lineage.errors import InvalidEntity
from lineage.graph import Graph
from lineage.home import open_home
from lineage.log import new_uid
from lineage.number import tagged

_MAX_TEXT: Final = 1_000


@final
class Input:
    """Marks a parameter, in `Annotated`, whose argument is data that the function reads."""


@final
class Output:
    """Marks a parameter, in `Annotated`, whose argument names what the function writes."""


@final
class TrackedRun:
    """One call, or one `with` block, while it runs.

    Args:
        recorder: that records it.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.uid = recorder.run_uid

    @property
    def entity(self) -> Entity:
        """The job, as last recorded."""
        return self._recorder.entity

    def input(self, value: object, *, type: str = "DataSet", name: str = "") -> Entity:
        """Name something that is read; see `lineage.content.as_artifact` for what it may be.

        Raises:
            InvalidEntity: there is nothing at the path, or the value is no content.
            EntityNotFound: no entity has this uid.
        """
        return self._recorder.input(as_artifact(value, type=type, name=name))

    def output(self, value: object, *, type: str = "DataSet", name: str = "") -> Entity:
        """Name something that is written; as `input`."""
        return self._recorder.output(as_artifact(value, type=type, name=name))

    def associate(self, source: End, destination: End, type: AssociationType | str) -> None:
        """Connect two other entities."""
        self._recorder.associate(source, destination, type)

    def columns(self, destination: End, edges: Collection[ColumnEdge]) -> None:
        """Say which columns went into those of what is written."""
        self._recorder.columns(destination, edges)

    def parameter(self, name: str, value: object) -> None:
        """Set a parameter, a JSON value."""
        self._recorder.parameter(name, value)

    def metric(self, name: str, value: float, *, step: int | None = None) -> None:
        """Set a metric; the last value counts."""
        self._recorder.metric(name, value, step=step)

    def property(self, name: str, value: object) -> None:
        """Set any other property, a JSON value."""
        self._recorder.property(name, value)


_CURRENT: Carried[TrackedRun] = Carried("lineage run")


def current_run() -> TrackedRun | None:
    """The innermost tracked call or block around the caller, or None.

    In a thread it is that of whoever started the thread, or submitted the work to a
    `ThreadPoolExecutor`; see `lineage.capture.carried.Carried`.
    """
    return _CURRENT.get()


def parent_properties() -> dict[str, str]:
    """What a run says of the run around it: `parent`, its entity, and `parent_run`, its uid."""
    around = _CURRENT.get()
    return {} if around is None else {"parent": around.entity.uid, "parent_run": around.uid}


@contextmanager
def running(run: TrackedRun) -> Iterator[None]:
    """Make a run the current one, of which those that begin inside are parts."""
    around = _CURRENT.get()
    _CURRENT.set(run)
    try:
        yield
    finally:
        _CURRENT.set(around)


@functools.cache
def _graph_of(home: Path) -> Graph:
    graph = open_home(home)
    atexit.register(graph.close)
    return graph


def default_graph() -> Graph:
    """The graph of `$FEATURELINE_HOME`, else of `./.featureline`; opened once per process.

    Raises:
        StoreUnavailable: it cannot be opened.
    """
    return _graph_of(Path(os.environ.get("FEATURELINE_HOME") or ".featureline").resolve())


@final
class Tracker:
    """Records a function's calls as its decorator, or a stretch of code as a `with` block.

    Made by `lineage.track`.
    """

    def __init__(
        self,
        name: str,
        type: str,
        graph: RecordsLineage | None,
        inputs: Collection[str],
        outputs: Collection[str],
        ignore: Collection[str],
    ) -> None:
        self._name = name
        self._type = type
        self._graph = graph
        self._inputs = frozenset(inputs)
        self._outputs = frozenset(outputs)
        self._ignore = frozenset(ignore)
        # By run: one tracker may be entered again, and by several threads or tasks at once.
        self._open: dict[str, _Block] = {}

    def __enter__(self) -> TrackedRun:
        block = _Block(self._graph or default_graph(), self._type, self._name or "block", {})
        run = block.__enter__()
        self._open[run.uid] = block
        return run

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        around = _CURRENT.get()
        known = around is not None and around.uid in self._open
        # Left in another context than it was entered in, it is the last one.
        uid = around.uid if around is not None and known else next(reversed(self._open))
        self._open.pop(uid).__exit__(kind, error, traceback)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Record every call of a function: plain, async, or a generator."""
        call = _Call(
            function,
            self._name or function.__qualname__.replace(".<locals>", ""),
            self._type,
            self._graph,
            self._inputs,
            self._outputs,
            self._ignore,
        )
        if inspect.isasyncgenfunction(function):

            @functools.wraps(function)
            async def async_items(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
                with call.begun(args, kwargs) as block:
                    items = function(*args, **kwargs)
                    step = functools.partial(anext, items)
                    while True:
                        try:
                            item = await step()
                        except StopAsyncIteration:
                            block.returned(None)
                            return
                        try:
                            with block.suspended():
                                sent = yield item
                        except GeneratorExit:
                            await items.aclose()
                            raise
                        except BaseException as error:  # noqa: BLE001 - it is the generator's
                            step = functools.partial(items.athrow, error)
                        else:
                            step = functools.partial(items.asend, sent)

            return async_items
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                with call.begun(args, kwargs) as block:
                    return block.returned(await function(*args, **kwargs))

            return awaited
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def generated(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
                with call.begun(args, kwargs) as block:
                    items = function(*args, **kwargs)
                    step = functools.partial(next, items)
                    while True:
                        try:
                            item = step()
                        except StopIteration as end:
                            return block.returned(end.value)
                        try:
                            with block.suspended():
                                sent = yield item
                        except GeneratorExit:
                            items.close()
                            raise
                        except BaseException as error:  # noqa: BLE001 - it is the generator's
                            step = functools.partial(items.throw, error)
                        else:
                            step = functools.partial(items.send, sent)

            return generated

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with call.begun(args, kwargs) as block:
                return block.returned(function(*args, **kwargs))

        return called


def track(
    function: Callable[..., Any] | str | None = None,
    /,
    *,
    name: str = "",
    type: str = "Function",
    graph: RecordsLineage | None = None,
    inputs: Collection[str] = (),
    outputs: Collection[str] = (),
    ignore: Collection[str] = (),
) -> Any:
    """Record what a function, or a stretch of code, reads, makes and returns.

    As a decorator each call is a job of its own: arguments that are JSON become parameters;
    tables, arrays, artifacts and `Path`s that exist become inputs; a table, array, artifact or
    `Path` that is returned, alone or in a tuple, list or dict, becomes an output; an exception
    makes the job Failed and goes through. A call inside another, or in a thread that the other
    started, names it as its parent. Inside the function `lineage.current_run()` takes what cannot
    be seen from outside.

    Args:
        function: what is decorated, or the name of a block.
        name: of the job; by default the function's.
        type: of the job.
        graph: where to record: a `Graph` or `LineageClient`; by default `default_graph()`.
        inputs: parameters whose arguments are data that is read, such as paths as text.
        outputs: parameters whose arguments are paths or uris that are written.
        ignore: parameters that are not recorded, such as passwords.

    Raises:
        RecordingFailed: lineage cannot be written; the call fails.

    >>> from lineage import Graph, MemoryStore
    >>> import pyarrow as pa
    >>> graph = Graph(MemoryStore())
    >>> @track(graph=graph)
    ... def doubled(table, factor=2):
    ...     return pa.table({"x": [factor * value for value in table["x"].to_pylist()]})
    >>> made = doubled(pa.table({"x": [1, 2]}))
    >>> [entity.type for entity in graph.query(as_artifact(made))]
    ['DataSet', 'Function', 'DataSet']
    >>> graph.find(type="Function")[0].properties["parameters"]
    {'factor': 2}
    """
    title = function if isinstance(function, str) else name
    tracker = Tracker(title, type, graph, inputs, outputs, ignore)
    return tracker(function) if callable(function) else tracker


@final
class _Block:
    """One recorded stretch: the recorder, and its place among the runs around it."""

    def __init__(
        self, graph: RecordsLineage, type: str, name: str, properties: Mapping[str, object]
    ) -> None:
        uid = new_uid()
        # Each run is an entity: what two calls read and wrote must not run together.
        self._recorder = Recorder(
            graph,
            type,
            f"{name}-{uid}",
            kind=Kind.TRIAL_COMPONENT,
            properties={**properties, "run": uid, **parent_properties()},
            run_uid=uid,
        )
        self._run = TrackedRun(self._recorder)
        self._around: TrackedRun | None = None

    def __enter__(self) -> TrackedRun:
        self._recorder.__enter__()
        self._around = _CURRENT.get()
        _CURRENT.set(self._run)
        return self._run

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """While a generator waits, the run of whoever waits for it is the current one."""
        inner = _CURRENT.get()
        _CURRENT.set(self._around)
        try:
            yield
        finally:
            self._around = _CURRENT.get()
            _CURRENT.set(inner)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _CURRENT.set(self._around)
        self._recorder.__exit__(kind, error, traceback)


@final
class _Call:
    """A tracked function, and how its arguments are taken."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        type: str,
        graph: RecordsLineage | None,
        inputs: frozenset[str],
        outputs: frozenset[str],
        ignore: frozenset[str],
    ) -> None:
        self._signature = inspect.signature(function)
        marked = _marked(function)
        self._inputs = inputs | {n for n, marker in marked.items() if marker is Input}
        self._outputs = outputs | {n for n, marker in marked.items() if marker is Output}
        self._ignore = ignore
        for named in self._inputs | self._outputs | ignore:
            if named not in self._signature.parameters:
                raise InvalidEntity(
                    f"track({name}): expected names of parameters "
                    f"({', '.join(self._signature.parameters)}), got {named!r}"
                )
        self._name = name
        self._type = type
        self._graph = graph
        self._properties: dict[str, object] = {
            "function": f"{function.__module__}.{function.__qualname__}"
        }
        try:
            source = inspect.getsource(function)
        except (OSError, TypeError):
            pass  # typed at a prompt, or built in
        else:
            self._properties["function_digest"] = hashlib.sha256(source.encode()).hexdigest()

    def begun(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Bound:
        """A call with these arguments; wrong ones are the function's own to refuse."""
        block = _Block(self._graph or default_graph(), self._type, self._name, self._properties)
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError:
            return _Bound(block, {}, frozenset(), frozenset())
        bound.apply_defaults()
        arguments = {
            name: value
            for name, value in bound.arguments.items()
            if name not in self._ignore and name not in ("self", "cls")
        }
        return _Bound(block, arguments, self._inputs, self._outputs)


@final
class _Bound:
    """One call: its arguments recorded at the start, what it returns and writes at the end."""

    def __init__(
        self,
        block: _Block,
        arguments: Mapping[str, Any],
        inputs: frozenset[str],
        outputs: frozenset[str],
    ) -> None:
        self._block = block
        self._arguments = arguments
        self._inputs = inputs
        self._outputs = outputs
        self._run: TrackedRun | None = None

    def __enter__(self) -> Self:
        self._run = run = self._block.__enter__()
        try:
            for name, value in self._arguments.items():
                if name in self._outputs:
                    continue
                data = as_artifact(value) if name in self._inputs else as_content(value)
                if data is not None:
                    run.input(data)
                else:
                    run.parameter(name, _shown(value))
        except BaseException as error:
            self._block.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def returned(self, value: Any) -> Any:
        """Record what is returned and written, and hand it on."""
        assert self._run is not None
        for name in sorted(self._outputs & self._arguments.keys()):
            self._run.output(self._arguments[name])
        several: Collection[Any] = (value,)
        if isinstance(value, tuple | list):
            several = value
        elif isinstance(value, Mapping):
            several = list(value.values())
        made = [data for one in several if (data := as_content(one)) is not None]
        for data in made:
            self._run.output(data)
        if not made and value is not None:
            self._run.property("result", _shown(value))
        return value

    def suspended(self) -> AbstractContextManager[None]:
        """While the generator waits; see `_Block.suspended`."""
        return self._block.suspended()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._block.__exit__(kind, error, traceback)


def _marked(function: Callable[..., Any]) -> dict[str, type]:
    """The parameters that are marked as read or written."""
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError):
        return {}  # annotations that cannot be resolved mark nothing
    return {
        name: marker
        for name, hint in hints.items()
        if get_origin(hint) is Annotated and name != "return"
        for marker in get_args(hint)[1:]
        if marker in (Input, Output)
    }


def _shown(value: object) -> object:
    """A value as a parameter: itself where it is short JSON, else its type."""
    if isinstance(value, bytes):
        digest = hashlib.sha256(value).hexdigest()
        return {"type": "bytes", "bytes": len(value), "sha256": digest}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {
            field.name: _shown(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    try:
        plain = plain_json(tagged(value), "parameter")
    except InvalidEntity:
        kind = type(value)
        return {"type": f"{kind.__module__}.{kind.__qualname__}"}
    if isinstance(plain, str) and len(plain) > _MAX_TEXT:
        return {"type": "str", "sha256": hashlib.sha256(plain.encode()).hexdigest()}
    if isinstance(plain, list | dict) and len(str(plain)) > _MAX_TEXT * 4:
        digest = hashlib.sha256(repr(plain).encode()).hexdigest()
        return {"type": type(value).__qualname__, "items": len(plain), "sha256": digest}
    return plain
