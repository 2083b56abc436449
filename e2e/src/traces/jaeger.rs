//! Traces as Jaeger's query API returns them.

use serde_json::Value;

use super::{Span, Trace};

/// Returns the spans of the first trace in a response of `/api/traces/{id}`; none if the response has no trace.
pub fn trace(answer: &Value) -> Trace {
    let trace = &answer["data"][0];
    trace["spans"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|span| {
            let process = span["processID"].as_str()?;
            let service = trace["processes"][process]["serviceName"].as_str()?;
            self::span(service, span)
        })
        .collect()
}

fn span(service: &str, span: &Value) -> Option<Span> {
    let parent = span["references"]
        .as_array()
        .into_iter()
        .flatten()
        // Links are FOLLOWS_FROM, and mostly lead into other traces.
        .find(|reference| {
            reference["refType"] == "CHILD_OF" && reference["traceID"] == span["traceID"]
        });
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut attributes: std::collections::BTreeMap<String, String> = span["tags"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|tag| Some((tag["key"].as_str()?.to_owned(), text(&tag["value"]))))
        .collect();
    let kind = attributes
        .remove("span.kind")
        .or_else(|| number(&span["kind"]));
    Some(Span {
        service: service.to_owned(),
        name: span["operationName"].as_str()?.to_owned(),
        kind: kind.unwrap_or_else(|| "internal".to_owned()),
        id: span["spanID"].as_str()?.to_owned(),
        parent: parent.and_then(|parent| parent["spanID"].as_str().map(str::to_owned)),
        failed: attributes.get("error").is_some_and(|error| error == "true")
            || span["error"] == true,
        attributes,
    })
}

/// Returns the name of OTLP's number for a span kind. Some servers with Jaeger's API give that number beside the tags.
fn number(kind: &Value) -> Option<String> {
    let kind = match kind.as_u64()? {
        2 => "server",
        3 => "client",
        4 => "producer",
        5 => "consumer",
        _ => "internal",
    };
    Some(kind.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::trace;

    #[test]
    fn a_trace_is_read() {
        let answer = json!({ "data": [{
            "traceID": "t",
            "spans": [
                { "traceID": "t", "spanID": "1", "operationName": "POST /orders", "processID": "p1",
                  "references": [],
                  "tags": [
                    { "key": "span.kind", "type": "string", "value": "server" },
                    { "key": "http.response.status_code", "type": "int64", "value": 503 },
                    { "key": "error", "type": "bool", "value": true },
                  ] },
                { "traceID": "t", "spanID": "2", "operationName": "job", "processID": "p2",
                  "references": [
                    { "refType": "FOLLOWS_FROM", "traceID": "other", "spanID": "9" },
                    { "refType": "CHILD_OF", "traceID": "t", "spanID": "1" },
                  ],
                  "tags": [] },
            ],
            "processes": { "p1": { "serviceName": "order" }, "p2": { "serviceName": "payment" } },
        }] });
        let trace = trace(&answer);
        let [request, job] = &trace.spans().collect::<Vec<_>>()[..] else {
            panic!("{trace:?}");
        };
        assert_eq!(
            (
                request.kind.as_str(),
                request.failed,
                request.get("http.response.status_code")
            ),
            ("server", true, "503")
        );
        assert_eq!((job.kind.as_str(), job.failed), ("internal", false));
        assert_eq!(trace.path(job), ["order POST /orders", "payment job"]);
        assert_eq!(super::trace(&json!({ "data": [] })).spans().count(), 0);
    }
}
