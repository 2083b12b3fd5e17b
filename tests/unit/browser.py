"""A page in headless Chromium, which tests click, type and look at (DevTools protocol)."""

import base64
import io
import json
import os
import select
import shutil
import subprocess
import time
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="needs chromium (apt-get install chromium)"
)
# Without a GPU, and without animations.
FLAGS = ("--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--hide-scrollbars")
FLAGS += ("--enable-unsafe-swiftshader", "--force-prefers-reduced-motion")
# Chromium reads commands from file 3 and answers in file 4.
START = 'exec "$@" --remote-debugging-pipe about:blank 3<&{} 4>&{}'
PATIENCE = 120


class Browser:
    """One page. `problems` are what its console said."""

    def __init__(self, commands, answers):
        self._commands, self._answers = commands, answers
        self._number, self._rest, self._session = 0, b"", None
        self.problems = []
        (target,) = (
            each["targetId"]
            for each in self.ask("Target.getTargets")["targetInfos"]
            if each["type"] == "page"
        )
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Runtime", "Log", "Page"):
            self.ask(f"{domain}.enable")

    def _read(self):
        until = time.monotonic() + PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._answers], [], [], max(0, until - time.monotonic()))
            part = os.read(self._answers, 1 << 20) if ready else b""
            if not part:
                raise AssertionError("Chromium does not answer")
            self._rest += part
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def ask(self, method, **params):
        self._number += 1
        command = {"id": self._number, "method": method, "params": params}
        command |= {"sessionId": self._session} if self._session else {}
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while True:
            message = self._read()
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            if message.get("method") in (
                "Runtime.exceptionThrown",
                "Runtime.consoleAPICalled",
                "Log.entryAdded",
            ):
                self.problems.append(message["params"])

    def run(self, script):
        """Value of an expression, awaited if it is a promise."""
        given = {"expression": script, "awaitPromise": True, "returnByValue": True}
        done = self.ask("Runtime.evaluate", **given)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait(self, script):
        """Until an expression is true."""
        until = time.monotonic() + PATIENCE
        while not self.run(script):
            assert time.monotonic() < until, script
            time.sleep(0.05)

    def open(self, path, width, height, phone=False, fragment=""):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        self.ask("Page.navigate", url="about:blank")
        self.ask("Page.navigate", url=path.as_uri() + fragment)
        self.wait("document.body && document.body.dataset.ready")
        self.draw()

    def draw(self):
        """Until what was asked for is on the screen."""
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def look(self):
        """Pixels of the window."""
        self.draw()
        image = self.ask("Page.captureScreenshot", format="png")["data"]
        return np.array(Image.open(io.BytesIO(base64.b64decode(image))).convert("RGB"))

    def press(self, key, **more):
        for kind in ("keyDown", "keyUp"):
            own = {"text": key} if kind == "keyDown" and len(key) == 1 else {}
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, **own, **more)

    def mouse(self, kind, x, y, **more):
        self.ask("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **more)

    def drag(self, start, end):
        self.mouse("Pressed", *start, button="left", buttons=1, clickCount=1)
        self.mouse("Moved", *end, button="left", buttons=1)
        self.mouse("Released", *end, button="left", clickCount=1)

    def tap(self, x, y):
        self.ask("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.ask("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])


@contextmanager
def open_browser(profile):
    """A browser of its own."""
    their_commands, commands = os.pipe()
    answers, their_answers = os.pipe()
    start = START.format(their_commands, their_answers)
    command = ["bash", "-c", start, "bash", CHROMIUM, *FLAGS, f"--user-data-dir={profile}"]
    theirs = (their_commands, their_answers)
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, pass_fds=theirs, **silent) as process:
        for number in theirs:
            os.close(number)
        try:
            yield Browser(commands, answers)
        finally:
            process.kill()
            os.close(commands)
            os.close(answers)
