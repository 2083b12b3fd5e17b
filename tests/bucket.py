"""A bucket on this machine: moto behind a server that notes requests and breaks on demand."""

import logging
import re
import socket
import threading
from contextlib import contextmanager

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

BUCKET = "nsd"


class Bucket:
    """A public bucket named `BUCKET`, served on loopback.

    Attributes
    ----------
    endpoint : str
    requests : list of (str, str, str)
        Method, path and range of all requests so far.
    """

    def __init__(self):
        self.requests = []
        self.broken = None
        self.served = 0
        moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._watch(moto), threaded=True)
        self.endpoint = f"http://127.0.0.1:{self._server.port}"
        self._client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="owner",
            aws_secret_access_key="secret",
        )

    def _watch(self, application):
        def watching(environ, start_response):
            path = environ["PATH_INFO"]
            span = environ.get("HTTP_RANGE", "")
            self.requests.append((environ["REQUEST_METHOD"], path, span))
            body = application(environ, start_response)
            if self.broken and environ["REQUEST_METHOD"] == "GET" and re.search(self.broken, path):
                return self._break_off(body, environ["werkzeug.socket"])
            return body

        return watching

    def _break_off(self, body, connection):
        """A few whole answers, then half of one, then none."""
        content = b"".join(body)
        self.served -= 1
        if self.served >= 0:
            yield content
            return
        if self.served == -1:
            yield content[: len(content) // 2]
        connection.shutdown(socket.SHUT_RDWR)
        raise ConnectionAbortedError("the connection is cut by the test")

    @contextmanager
    def breaking(self, pattern, after=0):
        """Cut the answers to requests for objects of a name, after the first `after` ones."""
        self.broken, self.served = pattern, after
        try:
            yield
        finally:
            self.broken = None

    def put(self, key, content, public=True):
        """Write an object from bytes or a file."""
        acl = "public-read" if public else "private"
        body = content if isinstance(content, bytes) else content.read_bytes()
        self._client.put_object(Bucket=BUCKET, Key=key, Body=body, ACL=acl)

    def put_folder(self, prefix, folder):
        """Write all files of a folder."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path)

    def delete(self, key):
        """Remove an object."""
        self._client.delete_object(Bucket=BUCKET, Key=key)

    def read_bytes(self, pattern):
        """Ranges of the GET requests so far whose path matches."""
        return [
            (path, span)
            for method, path, span in self.requests
            if method == "GET" and re.search(pattern, path)
        ]


@contextmanager
def serve_bucket():
    """Serve a new, empty `Bucket`.

    Yields
    ------
    Bucket
    """
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    bucket = Bucket()
    thread = threading.Thread(target=bucket._server.serve_forever, daemon=True)
    thread.start()
    try:
        bucket._client.create_bucket(Bucket=BUCKET, ACL="public-read")
        yield bucket
    finally:
        bucket._server.shutdown()
        thread.join()
