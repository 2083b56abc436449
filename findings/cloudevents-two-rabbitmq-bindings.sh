#!/usr/bin/env bash
# cloudevents 2.2.0 (PyPI, the SDK of CNCF).
#
# Expected: an event that the SDK writes for a RabbitMQ queue is one that the SDK reads from a RabbitMQ queue; and its
# attributes come back with their types.
# Observed: the SDK has two bindings for the same broker. `bindings.amqp` is CloudEvents' AMQP binding (headers
# `cloudEvents_id`, typed values), `bindings.rabbitmq` is Knative's (headers `ce-id`, all text). Neither reads what the
# other wrote: each raises an error, because its own headers are missing. An integer attribute that `bindings.rabbitmq`
# writes comes back as a string.
#
# Remedy: agree on the binding between publisher and consumer, not just on "CloudEvents over RabbitMQ".
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check cloudevents==2.2.0
saw=$("$work/venv/bin/python" - <<'PYTHON'
from cloudevents.core.bindings import amqp, rabbitmq
from cloudevents.core.v1.event import CloudEvent

event = CloudEvent(
    attributes={
        "id": "1",
        "source": "/order",
        "type": "order.confirmed.v1",
        "specversion": "1.0",
        "datacontenttype": "application/json",
        "attempt": 3,
    },
    data={"order": 7},
)


def headers(message):
    values = getattr(message, "application_properties", None) or getattr(message, "headers")
    return ", ".join(sorted(values))


def read(how, message):
    try:
        got = how(message)
        return f"reads it, attempt is {got.get_extension('attempt')!r}"
    except Exception as error:
        return f"raises {type(error).__name__}"


for name, writer in [("amqp", amqp), ("rabbitmq", rabbitmq)]:
    message = writer.to_binary_event(event)
    print(f"{name} writes the headers: {headers(message)}")

by_amqp, by_rabbitmq = amqp.to_binary_event(event), rabbitmq.to_binary_event(event)
print("amqp, what amqp wrote:", read(amqp.from_binary_event, by_amqp))
print("rabbitmq, what rabbitmq wrote:", read(rabbitmq.from_binary_event, by_rabbitmq))
# The same broker hands the same headers and body to either.
as_rabbitmq = rabbitmq.RabbitMQMessage(
    headers=dict(by_amqp.application_properties), content_type="application/json", body=by_amqp.application_data
)
as_amqp = amqp.AMQPMessage(
    properties={"content-type": "application/json"},
    application_properties=dict(by_rabbitmq.headers),
    application_data=by_rabbitmq.body,
)
print("rabbitmq, what amqp wrote:", read(rabbitmq.from_binary_event, as_rabbitmq))
print("amqp, what rabbitmq wrote:", read(amqp.from_binary_event, as_amqp))
PYTHON
)
echo "$saw"
grep --quiet '^rabbitmq, what rabbitmq wrote: reads it, attempt is .3.$' <<<"$saw" &&
    grep --quiet '^amqp, what amqp wrote: reads it, attempt is 3$' <<<"$saw" &&
    [ "$(grep --count -E '^(rabbitmq, what amqp|amqp, what rabbitmq) wrote: raises' <<<"$saw")" = 2 ] || {
    echo "the observed behaviour has changed" >&2
    exit 1
}
