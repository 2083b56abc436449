-- The other half of `traceparent`: what tracing systems on the way noted about the trace. Null in rows of a version before
-- this one, which also writes none while it runs beside.
alter table saga add column tracestate text;
