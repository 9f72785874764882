"""A web server of a test, on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that hangs up early, as torchvision does after asking for redirections, is no news."""


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Yield the address under which the files of a folder can be downloaded."""
    with QuietServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder))) as running:
        thread = Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()
