"""The gRPC side of the feature store: services, and the fronts that feed them."""

from featurestore.server.access import Access
from featurestore.server.control import ControlService
from featurestore.server.datasets import DEFAULT_MEMORY_BYTES
from featurestore.server.front import add_to_server
from featurestore.server.gate import Gate
from featurestore.server.guarded import guarded_by
from featurestore.server.limits import DEFAULT_LIMITS, Limits
from featurestore.server.native import NativeFront, native_is_available
from featurestore.server.registrar import Registrar
from featurestore.server.runtime import Call, RuntimeService
from featurestore.server.windows import WindowService

__all__ = [
    "DEFAULT_LIMITS",
    "DEFAULT_MEMORY_BYTES",
    "Access",
    "Call",
    "ControlService",
    "Gate",
    "Limits",
    "NativeFront",
    "Registrar",
    "RuntimeService",
    "WindowService",
    "add_to_server",
    "guarded_by",
    "native_is_available",
]
