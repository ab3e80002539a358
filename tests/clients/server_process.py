"""Starts and ends `sepllm serve` for the scripts of this folder. Needs only Python."""

import json
import os
import re
import signal
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("SEPLLM", REPOSITORY / "build/release/bin/sepllm"))


class Server:
    """A server on a free port of the loopback, or on `port`; a context manager that ends it by SIGTERM.

    model: folder or file; options: further options of `sepllm serve`. exit_code is set when it has ended.
    """

    def __init__(self, model, *options, port=0, seconds=120):
        self.model = model
        self.log = tempfile.NamedTemporaryFile(mode="w+", suffix=".log", delete=False)
        command = [str(BINARY), "serve", "--model", str(model), "--port", str(port), *map(str, options)]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)
        self.exit_code = None
        self.url = self._listening(seconds)
        self.host, self.port = self.url.removeprefix("http://").rsplit(":", 1)
        self.port = int(self.port)

    def _listening(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = re.search(r"listening on (http://[^\s/]+)", self.log_text())
            if found:
                return found[1]
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        self.kill()
        raise RuntimeError(f"the server does not listen:\n{self.log_text()}")

    def log_text(self):
        return Path(self.log.name).read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self):
        return self.process.pid

    def resident_bytes(self):
        return resident_bytes(self.pid)

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.loads(answer.read())

    def model_id(self):
        return self.get("/v1/models")["data"][0]["id"]

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, seconds=60):
        """The exit code; negative: the signal that ended the process."""
        self.exit_code = self.process.wait(seconds)
        return self.exit_code

    def terminate(self, seconds=60):
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait(seconds)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        return self.wait()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if self.process.poll() is None:
            try:
                self.terminate()
            except subprocess.TimeoutExpired:
                self.kill()
        self.exit_code = self.process.returncode
        if kind is not None:
            print("last lines of the server's log:\n" + "\n".join(self.log_text().splitlines()[-15:]))
        self.log.close()
        os.unlink(self.log.name)


def resident_bytes(pid):
    """Resident memory without the pages of files, so that mapped weights do not count; 0 if the process has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0
