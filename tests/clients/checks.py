"""Named checks that count, and the arguments that all client scripts have."""

import argparse
import contextlib
import sys
import traceback

from server_process import Server


class Checks:
    def __init__(self):
        self.passed, self.failed = 0, 0

    def that(self, good, message):
        if good:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED: {message}", flush=True)

    def equal(self, got, expected, message):
        self.that(got == expected, f"{message}: got {got!r}, expected {expected!r}")

    def raises(self, kind, call, message, **attributes):
        """call() must raise kind, whose attributes have these values."""
        try:
            call()
        except kind as error:
            for name, value in attributes.items():
                self.equal(getattr(error, name), value, f"{message}: {name} of {error}")
            self.passed += 1
        except Exception as error:
            self.that(False, f"{message}: {type(error).__name__} {error}")
        else:
            self.that(False, f"{message}: no {kind.__name__}")

    @contextlib.contextmanager
    def part(self, name):
        """One part of a script: an exception fails it, and the next part runs."""
        try:
            yield
        except Exception:
            self.that(False, f"{name}\n{traceback.format_exc()}")

    def end(self):
        print(f"{sys.argv[0].rsplit('/', 1)[-1]}: {self.passed} checks passed, {self.failed} failed")
        return 1 if self.failed else 0


def parser(description):
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--model", required=True, help="folder or file of a model with a chat template")
    options.add_argument("--serve", nargs=argparse.REMAINDER, default=[], help="last: further options of sepllm serve")
    return options


def start(args, *options):
    return Server(args.model, *options, *args.serve)
