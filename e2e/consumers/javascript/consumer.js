// Consumes Holdfast's events, and writes each to standard output as one line of JSON.
//
//     AMQP_URL=amqp://listener:PASSWORD@HOST:5672/holdfast node consumer.js [COUNT]
//
// Stops after COUNT events; without COUNT, never.

import amqp from 'amqplib';
import { CloudEvent } from 'cloudevents';

const QUEUE = process.env.QUEUE ?? 'listener.events';
const PREFIX = 'cloudEvents_';
const count = Number(process.argv[2] ?? Infinity);

// Reads a delivery by CloudEvents' AMQP binding in binary mode; AMQP 1.0's application properties are headers here. The
// package has no AMQP binding; `CloudEvent` checks the attributes.
function eventOf({ properties, content }) {
  const attributes = Object.entries(properties.headers)
    .filter(([name]) => name.startsWith(PREFIX))
    .map(([name, value]) => [name.slice(PREFIX.length), value]);
  return new CloudEvent({
    ...Object.fromEntries(attributes),
    datacontenttype: properties.contentType,
    data: JSON.parse(content.toString('utf8')),
  });
}

const connection = await amqp.connect(process.env.AMQP_URL);
const channel = await connection.createChannel();
await channel.prefetch(50);
// Every message arrives at least once. Store the ids of handled messages with their effect, in the same transaction.
// This program, whose effect is a printed line, keeps them in memory.
const handled = new Set();

await new Promise((done, failed) => {
  connection.on('error', failed);
  channel.on('error', failed);
  channel.consume(QUEUE, (message) => {
    if (message === null) return failed(new Error(`the broker ended the consumer of ${QUEUE}`));
    if (handled.size >= count) return; // the broker requeues it when the channel closes
    try {
      const event = eventOf(message);
      if (!handled.has(event.id)) {
        const { traceparent, tracestate } = message.properties.headers;
        console.log(JSON.stringify({
          id: event.id,
          type: event.type,
          source: event.source,
          order: event.subject,
          key: event.idempotencykey,
          traceparent,
          tracestate,
          data: event.data,
        }));
        handled.add(event.id);
      }
      // Acknowledged after the effect: if this process dies in between, the broker delivers the event again.
      channel.ack(message);
    } catch (error) {
      return failed(error);
    }
    if (handled.size >= count) done();
  }).catch(failed);
});
await channel.close();
await connection.close();
