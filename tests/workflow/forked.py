"""A Python for the workflow's runs and their jobs whose imports are made once.

Starting is most of what tiny jobs take: seconds of imports each, always the same. `find_python`
makes a program that is called like Python, for ``-m snakemake`` and for scripts; a server that has
imported everything forks, and the fork becomes the process that was asked for, with its arguments,
folder, environment and files. Nothing of the project is imported before, since its copies have
modules of their own. tests/slurm, tests/faults and `make demo` start their jobs as usual.
"""

import ast
import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from shlex import quote

PACKAGE = Path(__file__).resolve().parents[2] / "nsdldm"
# What every run of Snakemake imports, most of it late.
OF_RUNS = ("snakemake.cli", "snakemake.report", "snakemake.assets", "snakemake.storage")
OF_RUNS += ("snakemake_storage_plugin_s3", "smart_open", "nbformat.v4", "pydantic", "yaml")
LARGEST = 1 << 20
CLIENT = """import json, os, socket, sys
if sys.argv[1:3] != ["-m", "snakemake"] and sys.argv[1].startswith("-"):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect({address!r})
    asked = [sys.argv, os.getcwd(), dict(os.environ)]
    socket.send_fds(server, [json.dumps(asked).encode()], [0, 1, 2])
    sys.exit(int(server.recv(9) or 1))
"""


@cache
def find_python():
    """Path of the program; what it needs ends with the tests."""
    if not hasattr(os, "pidfd_open"):
        return sys.executable  # not on Linux
    folder = tempfile.TemporaryDirectory(prefix="nsdldm-")
    client, code, address = (str(Path(folder.name) / name) for name in ("python", "code", "server"))
    Path(code).write_text(CLIENT.format(python=sys.executable, address=address))
    # Through the shell, since the first line of a script can name no path with blanks.
    Path(client).write_text(f'#!/bin/sh\nexec {quote(sys.executable)} -IS {code} "$@"\n')
    os.chmod(client, 0o700)
    # Jobs have one core each, which libraries are told when they are imported.
    own = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
    # Advice about what is not installed would be given while the tests print.
    own |= {"TRANSFORMERS_VERBOSITY": "error"}
    # -P: what is beside this file is nothing that others may import.
    server = subprocess.Popen(
        [sys.executable, "-P", __file__, client, address],
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | own,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    server.stdout.readline()
    atexit.register(folder.cleanup)
    atexit.register(server.communicate)
    return client


def _serve(client, address):
    """Fork for every call of the program, until the input ends."""
    import_runs()
    ready = False
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(address)
        server.listen()
        print("ready", flush=True)
        while server in select.select([server, sys.stdin], [], [])[0]:
            connection = server.accept()[0]
            asked, files, _, _ = socket.recv_fds(connection, LARGEST, 3)
            asked = json.loads(asked)
            if not ready and asked[0][1] != "-m":
                import_jobs()
                ready = True
            if not os.fork():
                server.close()
                return _watch(client, connection, files, *asked)
            for file in files:
                os.close(file)
            connection.close()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    with suppress(ChildProcessError):
        while os.waitpid(-1, 0):
            pass
    return None


def import_runs():
    """Import what runs of Snakemake need."""
    for name in OF_RUNS:
        import_module(name)
    # It looks for plugins.
    import_module("snakemake.cli").get_argument_parser()
    gc.freeze()


def import_jobs():
    """Import what the package imports from elsewhere, anywhere in it."""
    nodes = [n for path in PACKAGE.rglob("*.py") for n in ast.walk(ast.parse(path.read_text()))]
    imports = {ast.unparse(n) for n in nodes if isinstance(n, ast.Import | ast.ImportFrom)}
    for statement in sorted(imports):
        if statement.split()[1].partition(".")[0] != PACKAGE.name:
            # As it stands, since some libraries import parts of them when these are asked for.
            exec(statement, {})
    gc.freeze()


def _watch(client, connection, files, *asked):
    """Fork the process itself, answer with its status, and kill it where nobody waits for it."""
    process = os.fork()
    if not process:
        connection.close()
        return _become(client, files, *asked)
    ended = os.pidfd_open(process)
    if connection in select.select([ended, connection], [], [])[0]:
        os.kill(process, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with suppress(OSError):
        connection.send(str(status % 256).encode())
    os._exit(0)


def _become(client, files, arguments, folder, environment):
    """Be the process that was asked for."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    added = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    # Whose jobs are started in the same way.
    sys.executable = client
    status = 0
    try:
        if arguments[1] == "-m":
            sys.path[:0] = [folder, *added]
            sys.argv = arguments[2:]
            runpy.run_module(arguments[2], run_name="__main__", alter_sys=True)
        else:
            sys.path[:0] = [os.path.dirname(arguments[1]), *added]
            sys.argv = arguments[1:]
            runpy.run_path(arguments[1], run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int | None) else print(end, file=sys.stderr) or 1
    except BaseException:
        traceback.print_exc()
        status = 1
    # Without taking down thousands of modules.
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status or 0)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
