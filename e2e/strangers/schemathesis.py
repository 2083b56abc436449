"""Has schemathesis invent requests from each served document, and check every response against it.

Run by `cargo xtask verify schemathesis`, which starts a stack and sets the variables.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = Path(os.environ["WORK_FOLDER"]) / "schemathesis"
SERVICES = ["order", "payment", "inventory", "notification", "orchestrator", "card-processor", "control-room"]


def run(service: str) -> bool:
    url = os.environ[service.upper().replace("-", "_") + "_URL"]
    log = HOME / f"{service}.log"
    report = HOME / f"{service}.json"
    command = [
        Path(sys.executable).with_name("schemathesis"),
        "--config-file", ROOT / "e2e/strangers/schemathesis.toml",
        "run", f"{url}/openapi.json", "--report-json-path", report,
    ]
    with log.open("w") as output:
        status = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False, cwd=HOME).returncode
    lines = log.read_text().splitlines()
    summary = [line.strip() for line in lines if " selected / " in line or " generated, " in line]
    print(f"  {service:<15} {'ok' if status == 0 else 'FAILED'}  {'; '.join(summary)}", flush=True)
    if status != 0:
        print(log.read_text(), flush=True)
    return status == 0


def main() -> None:
    HOME.mkdir(parents=True, exist_ok=True)
    if not all([run(service) for service in sys.argv[1:] or SERVICES]):
        sys.exit(1)


if __name__ == "__main__":
    main()
