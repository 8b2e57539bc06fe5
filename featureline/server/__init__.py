"""The server process: the stores of one home behind gRPC, in one process or several."""

from featureline.server.run import main_logging, serve
from featureline.server.server import Server
from featureline.server.settings import Settings, Tls

__all__ = ["Server", "Settings", "Tls", "main_logging", "serve"]
