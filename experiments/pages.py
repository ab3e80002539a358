#!/usr/bin/env python3
"""Makes pages of docs/results from the runs of run.sh. Every figure on a page is read from what the program wrote; a page
whose runs are not all there is left as it is.

    pages.py --program build/release/bin/sepllm --runs build/experiments --texts TEXTS --to docs/results e1 e2 ..."""

import argparse

import e1_policies
import e2_speed
import e3_post_training
import e4_streaming
import e5_where
import e6_prefix
import mixed_precision


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("program", "runs", "texts", "to"):
        parser.add_argument(f"--{name}", required=True)
    pages = {"e1": lambda a: e1_policies.page(a.runs, a.to), "e2": lambda a: e2_speed.page(a.runs, a.to),
             "e3": lambda a: e3_post_training.page(a.runs, a.to),
             "e4": lambda a: e4_streaming.page(a.runs, a.to, a.program, a.texts),
             "e5": lambda a: e5_where.page(a.runs, a.to, a.program, a.texts),
             "e6": lambda a: e6_prefix.page(a.runs, a.to, a.program, a.texts),
             "mixed": lambda a: mixed_precision.page(a.runs, a.to)}
    parser.add_argument("pages", nargs="+", choices=list(pages))
    args = parser.parse_args()
    for name in args.pages:
        pages[name](args)


if __name__ == "__main__":
    main()
