"""Read the release from a bucket: list folders, look into objects, fetch one at a time.

boto3 is imported where it is needed: the Snakefile imports this module, and only runs that read
from a bucket should pay for it.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from nsdldm.support.errors import Finding, InputError, reading

logger = logging.getLogger(__name__)

SCHEME = "s3://"
TIMEOUT = 30
ATTEMPTS = 5
# Longest range requested at once: the release's pictures have 541,875 bytes.
RANGE = 2**20
DENIED = {"AccessDenied", "403", "SignatureDoesNotMatch", "InvalidAccessKeyId", "ExpiredToken"}
ABSENT = {"NoSuchBucket": "a bucket", "NoSuchKey": "an object", "404": "an object"}


def is_remote(path: Path | str) -> bool:
    """Whether a path is the address of an object in a bucket."""
    return str(path).startswith(SCHEME)


def split_address(address: str) -> tuple[str, str]:
    """Split ``s3://bucket/key`` into bucket and key, which may be empty."""
    bucket, _, key = str(address).removeprefix(SCHEME).partition("/")
    return bucket, key.rstrip("/")


def connect(storage: dict) -> Any:
    """Make a client of a bucket's service.

    Parameters
    ----------
    storage : dict
        endpoint: its URL, or None for Amazon's; signed: whether to sign requests with the user's
        credentials, which a public bucket does not need.

    Returns
    -------
    botocore client
    """
    return _connect(storage["endpoint"], storage["signed"])


@cache
def _connect(endpoint, signed):
    import boto3
    import botocore
    from botocore.config import Config

    config = Config(
        signature_version=None if signed else botocore.UNSIGNED,
        retries={"max_attempts": ATTEMPTS, "mode": "standard"},
        connect_timeout=TIMEOUT,
        read_timeout=TIMEOUT,
    )
    # A region is needed to compose addresses; if the bucket is elsewhere, it is looked up.
    session = boto3.Session()
    region = session.region_name or "us-east-1"
    return session.client("s3", endpoint_url=endpoint, region_name=region, config=config)


@contextmanager
def reaching(address: str, storage: dict) -> Iterator[None]:
    """Report whatever prevents reading an object as an `InputError` about it.

    Parameters
    ----------
    address : str
    storage : dict
        As `connect` takes it.
    """
    import botocore.exceptions
    from boto3.exceptions import Boto3Error
    from urllib3.exceptions import HTTPError

    try:
        yield
    except botocore.exceptions.NoCredentialsError as error:
        remedy = "Set up credentials as for the aws command, or set `storage`.signed to false"
        raise InputError(Finding(address, "signed access", "no credentials", remedy)) from error
    except (botocore.exceptions.ClientError, OSError) as error:
        # smart_open wraps the original error.
        answer = getattr(getattr(error, "backend_error", error), "response", None)
        describe = _refused if answer else _broken
        raise InputError(
            describe(address, storage, answer["Error"] if answer else error)
        ) from error
    except (botocore.exceptions.BotoCoreError, Boto3Error, HTTPError) as error:
        raise InputError(_broken(address, storage, error)) from error


def _refused(address, storage, error):
    """Describe the answer of a service that did not return an object."""
    code = error.get("Code", "")
    if code in ABSENT:
        remedy = "Correct `root`, or `storage`.endpoint if the bucket is not Amazon's"
        return Finding(address, ABSENT[code], "none of that name", remedy)
    if code in DENIED:
        found = f"that access is denied to {'signed' if storage['signed'] else 'unsigned'} requests"
        remedy = (
            "Set `storage`.signed to true if you have credentials, or ask for the right to list "
            "and read"
        )
        return Finding(address, "one that can be read", found, remedy)
    found = f"the answer {code} ({error.get('Message', 'no message')})"
    return Finding(address, "one that can be read", found, "Correct `root` or `storage`.endpoint")


def _broken(address, storage, error):
    """Describe a connection that failed or broke."""
    where = storage["endpoint"] or "Amazon S3"
    reason = str(error).partition("\n")[0] or type(error).__name__
    remedy = "Run the same command again once it can be reached; what is done is kept"
    return Finding(address, f"an answer from {where}", f"no whole one ({reason})", remedy)


def list_folder(address: str, storage: dict) -> dict[str, int]:
    """List the objects directly in a folder of a bucket.

    Parameters
    ----------
    address : str
        ``s3://bucket/folder``.
    storage : dict
        As `connect` takes it.

    Returns
    -------
    dict of str to int
        Size in bytes of each object, by its name in the folder.

    Raises
    ------
    InputError
        The bucket does not exist, refuses, or cannot be reached.
    """
    bucket, key = split_address(address)
    prefix = f"{key}/" if key else ""
    with reaching(address, storage):
        pages = connect(storage).get_paginator("list_objects_v2")
        pages = pages.paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
        objects = [entry for page in pages for entry in page.get("Contents", ())]
    return {entry["Key"].removeprefix(prefix): entry["Size"] for entry in objects}


def has_objects(address: str, storage: dict) -> bool:
    """Whether there is anything in a folder of a bucket; see `list_folder`."""
    bucket, key = split_address(address)
    prefix = f"{key}/" if key else ""
    with reaching(address, storage):
        page = connect(storage).list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
    return page["KeyCount"] > 0


def find_version(path: Path | str, storage: dict | None = None) -> list[str]:
    """Identify the version of a file or object without reading it.

    Returns
    -------
    list of str
        The path, its size, and its entity tag in a bucket or its modification time on disk.
    """
    if not is_remote(path):
        with reading(path, "a file"):
            status = Path(path).stat()
        return [str(path), str(status.st_size), str(status.st_mtime_ns)]
    bucket, key = split_address(path)
    with reaching(path, storage):
        head = connect(storage).head_object(Bucket=bucket, Key=key)
    return [str(path), str(head["ContentLength"]), head["ETag"]]


@contextmanager
def fetched(path: Path | str, folder: Path | str, storage: dict) -> Iterator[Path]:
    """Yield a local copy of an object, removed afterwards; a local file is yielded as it is.

    Parameters
    ----------
    path : str or Path
        A file, or the address of an object.
    folder : str or Path
        Folder for the temporary copy.
    storage : dict
        As `connect` takes it; not read for a file.

    Yields
    ------
    Path

    Raises
    ------
    InputError
        The object cannot be read completely. Errors about the copy are reported about the object.
    """
    if not is_remote(path):
        yield Path(path)
        return
    bucket, key = split_address(path)
    copy = Path(folder) / key.rpartition("/")[-1]
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        logger.info("fetching %s", path)
        with reaching(path, storage):
            connect(storage).download_file(bucket, key, str(copy))
        yield copy
    except InputError as error:
        raise InputError(*(_about(finding, copy, path) for finding in error.findings)) from error
    finally:
        copy.unlink(missing_ok=True)


def _about(finding, copy, address):
    """The same finding, about the object instead of its copy."""
    return replace(finding, where=finding.where.replace(str(copy), str(address)))


@contextmanager
def open_ranges(path: Path | str, storage: dict) -> Iterator[BinaryIO]:
    """Open an object for random access; only what is read is transferred.

    Parameters
    ----------
    path : str or Path
        A file, or the address of an object.
    storage : dict
        As `connect` takes it; not read for a file.

    Yields
    ------
    binary file object
    """
    if not is_remote(path):
        with open(path, "rb") as stream:
            yield stream
        return
    import smart_open

    options = {"client": connect(storage), "range_chunk_size": RANGE, "buffer_size": 2**16}
    with reaching(path, storage):
        reader = smart_open.open(path, "rb", transport_params=options, compression="disable")
    with reader:
        yield _Ranges(reader, path, storage)


class _Ranges(io.RawIOBase):
    """A reader whose errors name its object, whoever reads from it."""

    def __init__(self, reader, address, storage):
        self._reader, self._place = reader, (address, storage)

    def readable(self):
        """As for any stream."""
        return True

    def seekable(self):
        """As for any stream."""
        return True

    def readinto(self, buffer):
        """Fill a buffer from the current position on."""
        with reaching(*self._place):
            return self._reader.readinto(buffer)

    def seek(self, offset, whence=io.SEEK_SET):
        """Go to another position."""
        with reaching(*self._place):
            return self._reader.seek(offset, whence)

    def tell(self):
        """The current position."""
        return self._reader.tell()
