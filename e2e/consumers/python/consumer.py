"""Consumes Holdfast's events, and writes each to standard output as one line of JSON.

    AMQP_URL=amqp://listener:PASSWORD@HOST:5672/holdfast python consumer.py [COUNT]

Stops after COUNT events; without COUNT, never.
"""

import json
import os
import sys

import pika
from cloudevents.core.bindings.amqp import AMQPMessage, from_binary
from cloudevents.core.formats.json import JSONFormat

QUEUE = os.environ.get("QUEUE", "listener.events")


def event_of(properties: pika.BasicProperties, body: bytes):
    """Reads a delivery by CloudEvents' AMQP binding, binary mode; AMQP 1.0's application properties are headers."""
    attributes = {
        name: value
        for name, value in (properties.headers or {}).items()
        if name.startswith("cloudEvents_")
    }
    message = AMQPMessage({"content-type": properties.content_type}, attributes, body)
    return from_binary(message, JSONFormat())


def main(count: float) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=50)
    # Every message arrives at least once. Store the ids of handled messages with their effect, in the same transaction.
    # This program, whose effect is a printed line, keeps them in memory.
    handled = set()
    for method, properties, body in channel.consume(QUEUE):
        event = event_of(properties, body)
        if event.get_id() not in handled:
            line = {
                "id": event.get_id(),
                "type": event.get_type(),
                "source": event.get_source(),
                "order": event.get_subject(),
                "key": event.get_extension("idempotencykey"),
                "traceparent": properties.headers.get("traceparent"),
                "tracestate": properties.headers.get("tracestate"),
                "data": event.get_data(),
            }
            print(json.dumps(line), flush=True)
            handled.add(event.get_id())
        # Acknowledged after the effect: if this process dies in between, the broker delivers the event again.
        channel.basic_ack(method.delivery_tag)
        if len(handled) >= count:
            break
    connection.close()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else float("inf"))
