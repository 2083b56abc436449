//! The destination of spans, as the variables set it.

use chassis::settings::TelemetrySettings;
use clap::Parser;
use holdfast::telemetry::{Exporter, Sampling};

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    telemetry: TelemetrySettings,
}

fn parse(arguments: &[&str]) -> Result<TelemetrySettings, String> {
    let arguments = ["service"].iter().chain(arguments);
    Arguments::try_parse_from(arguments)
        .map(|arguments| arguments.telemetry)
        .map_err(|error| error.to_string())
}

fn exporter(name: &str) -> Exporter {
    let settings = parse(&["--otel-traces-exporter", name]).expect(name);
    settings.traces().expect(name).exporter
}

#[test]
fn each_exporter_has_its_settings() {
    assert_eq!(
        exporter("otlp"),
        Exporter::Otlp {
            endpoint: "http://localhost:4318".to_owned()
        }
    );
    assert_eq!(
        exporter("zipkin"),
        Exporter::Zipkin {
            endpoint: "http://localhost:9411/api/v2/spans".to_owned()
        }
    );
    assert_eq!(
        exporter("jaeger"),
        Exporter::Jaeger {
            host: "localhost".to_owned(),
            port: 6831
        }
    );
    assert_eq!(exporter("console"), Exporter::Console);
    assert_eq!(exporter("none"), Exporter::None);
    let settings = parse(&[
        "--otel-exporter-otlp-endpoint=http://jaeger:4318",
        "--otel-traces-exporter=otlp",
        "--otel-traces-sampler=parentbased_traceidratio",
        "--otel-traces-sampler-arg=0.25",
    ]);
    let traces = settings.expect("settings").traces().expect("traces");
    assert_eq!(
        traces.exporter,
        Exporter::Otlp {
            endpoint: "http://jaeger:4318".to_owned()
        }
    );
    assert_eq!(
        traces.sampling,
        Sampling {
            parent_based: true,
            ratio: 0.25
        }
    );
}

#[test]
fn unknown_value_is_refused_by_the_name_of_its_variable() {
    let refused = parse(&["--otel-traces-exporter", "smoke-signals"]).expect_err("no such one");
    for said in [
        "OTEL_TRACES_EXPORTER",
        "smoke-signals",
        "otlp, jaeger, zipkin, console, none",
    ] {
        assert!(refused.contains(said), "{said:?} in {refused}");
    }
    let sampled = parse(&["--otel-traces-sampler", "sometimes"]).expect("any text");
    let refused = sampled.traces().expect_err("no such one").to_string();
    assert!(refused.contains("OTEL_TRACES_SAMPLER"), "{refused}");
    let sampled = parse(&["--otel-traces-sampler-arg", "2"]).expect("any number");
    let refused = sampled.traces().expect_err("no share").to_string();
    assert!(refused.contains("OTEL_TRACES_SAMPLER_ARG"), "{refused}");
}
