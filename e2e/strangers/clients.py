"""Generates a client from each document in docs/openapi, and uses it: order's client places, lists and cancels an order.

Run by `cargo xtask verify clients`, which starts a stack and sets the variables. Every call goes
through generated code; no path is written here.
"""

import importlib
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = Path(os.environ["WORK_FOLDER"]) / "clients"


def generate(service: str) -> str:
    """Generates the client of a service, and returns its package."""
    package = service.replace("-", "_") + "_client"
    generator = Path(sys.executable).with_name("openapi-python-client")
    told = subprocess.run(
        [generator, "generate", "--config", ROOT / "e2e/strangers/clients.yaml", "--meta", "none", "--overwrite", "--fail-on-warning",
         "--path", ROOT / f"docs/openapi/{service}.json", "--output-path", HOME / package],
        capture_output=True, text=True, check=False, cwd=HOME,
    )
    if told.returncode != 0:
        sys.exit(f"{service}: the generator says\n{told.stdout}{told.stderr}")
    return package


class Service:
    """A generated client, connected to its service."""

    def __init__(self, name: str, role: str | None) -> None:
        self.package = generate(name)
        client = importlib.import_module(f"{self.package}.client")
        base_url = os.environ[name.upper().replace("-", "_") + "_URL"]
        if role is None:
            self.client = client.Client(base_url=base_url)
        else:
            self.client = client.AuthenticatedClient(base_url=base_url, token=os.environ[f"{role}_TOKEN"])

    def model(self, name: str):
        return getattr(importlib.import_module(f"{self.package}.models"), name)

    def call(self, tag: str, operation: str, *path, status: int, **arguments):
        """Calls an operation, and returns its response as the type that the document promises."""
        module = importlib.import_module(f"{self.package}.api.{tag}.{operation}")
        answer = module.sync_detailed(*path, client=self.client, **arguments)
        assert answer.status_code == status, (operation, answer.status_code, answer.content)
        assert answer.parsed is not None, (operation, "has no type")
        return answer.parsed


def an_order() -> str:
    order = Service("order", "CUSTOMER")
    wanted = order.model("PlaceOrder").from_dict(
        {"lines": [{"sku": "TEA-EARL-GREY", "quantity": 2}], "payment": {"method": "card", "token": "tok_visa"}}
    )
    key = str(uuid.uuid4())
    placed = order.call("orders", "place_order", status=202, body=wanted, idempotency_key=key)
    again = order.call("orders", "place_order", status=202, body=wanted, idempotency_key=key)
    assert placed.id == again.id, "the same key is the same order"
    page = order.call("orders", "list_orders", status=200, limit=200)
    assert placed.id in [listed.id for listed in page.orders], "it is listed"
    order.call("orders", "cancel_order", placed.id, status=202)
    deadline = time.monotonic() + 60
    while True:
        shown = order.call("orders", "show_order", placed.id, status=200)
        if shown.at_rest and shown.state.value == "cancelled":
            break
        assert time.monotonic() < deadline, f"it is {shown.state} after 60 s"
        time.sleep(0.1)
    missing = order.call("orders", "show_order", uuid.uuid4(), status=404)
    assert missing.type_ == "urn:holdfast:problem:not-found", missing
    refused = order.call("orders", "list_orders", status=422, limit=201)
    assert refused.errors, refused
    return f"placed, listed and cancelled {placed.id}; 404 and 422 are problems"


def a_read(name: str, role: str | None, tag: str, operation: str, *path) -> str:
    answer = Service(name, role).call(tag, operation, *path, status=200)
    return f"{operation} answers {type(answer).__name__}"


CASES = {
    "order": an_order,
    "payment": lambda: a_read("payment", "CUSTOMER", "wallets", "show_wallet", "alice"),
    "inventory": lambda: a_read("inventory", "CUSTOMER", "catalogue", "list_products"),
    "notification": lambda: a_read("notification", "CUSTOMER", "webhooks", "list_webhooks"),
    "orchestrator": lambda: a_read("orchestrator", "OPERATOR", "operator", "list_sagas"),
    "card-processor": lambda: a_read("card-processor", "OPERATOR", "operator", "show_knobs"),
    "control-room": lambda: a_read("control-room", None, "room", "show_config"),
}


def main() -> None:
    HOME.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(HOME))
    for service in sys.argv[1:] or CASES:
        print(f"  {service:<15} {CASES[service]()}", flush=True)


if __name__ == "__main__":
    main()
