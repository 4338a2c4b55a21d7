"""`python -m conformance [NAME ...]`: try the tools, and write `docs/conformance.md`.

With names, only these are tried, and the document is left as it is.
"""

import argparse
import sys

import httpx

from acceptance.processes import ROOT, service
from conformance.generators import GENERATORS
from conformance.install import install
from conformance.linters import LINTERS
from conformance.report import report
from conformance.trial import Trial, try_out

TOOLS = {tool.name: tool for tool in (*GENERATORS, *LINTERS)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m conformance", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(TOOLS)}")
    names: list[str] = parser.parse_args().names
    install()
    with service(DEMO_LATENCY="0.01") as url:
        document = httpx.get(f"{url}/openapi.json").raise_for_status().content
        trials = [_tried(name, url, document) for name in names or TOOLS]
    if not names:
        (ROOT / "docs/conformance.md").write_text(report(trials))
    return 0 if all(trial.good for trial in trials) else 1


def _tried(name: str, url: str, document: bytes) -> Trial:
    trial = try_out(TOOLS[name], url, document)
    steps = ", ".join(step if passed else f"NOT {step}" for step, passed in trial.passed.items())
    print(f"{name}: {steps or f'{trial.missing} is missing'}", flush=True)
    if trial.said:
        print(trial.said)
    return trial


if __name__ == "__main__":
    sys.exit(main())
