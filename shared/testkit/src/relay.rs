//! A service that makes the calls that a request lists: the test service that W3C's trace-context harness needs.

use actix_web::{HttpRequest, HttpResponse, post, web};
use chassis::{
    Chassis,
    client::{Client, TokenFile},
    http::{JsonBody, Problem, deadline_of},
    settings::{DemoSettings, HttpSettings, IdentitySettings, TelemetrySettings},
};
use clap::Parser;
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;
use utoipa::OpenApi;

/// Posts the bodies that a request lists to the URLs that it lists, in the trace of the request
#[derive(Clone, Debug, Parser)]
#[command(name = "trace-relay")]
pub struct RelayConfig {
    /// The HTTP server.
    #[command(flatten)]
    pub http: HttpSettings,
    /// The tokens that are accepted.
    #[command(flatten)]
    pub identity: IdentitySettings,
    /// The rights of demonstrations.
    #[command(flatten)]
    pub demo: DemoSettings,
    /// Logs and traces.
    #[command(flatten)]
    pub telemetry: TelemetrySettings,
    /// The file with the token that it shows
    #[arg(long, env = "SERVICE_TOKEN_FILE")]
    pub service_token_file: std::path::PathBuf,
}

/// A call to make: `POST url` with `arguments` as its body.
#[derive(Debug, Deserialize)]
struct Call {
    url: String,
    #[serde(default)]
    arguments: Value,
}

#[derive(OpenApi)]
#[openapi()]
struct Api;

/// Makes a relay: a service like every other, whose one route is `POST /relay`.
///
/// The request's body is a list of `{"url": …, "arguments": …}`. Each is called in turn, with the `arguments` as its
/// body; a chain is made by arguments that address another relay.
pub fn relay(config: RelayConfig) -> anyhow::Result<Chassis> {
    let token = web::Data::new(TokenFile::new(&config.service_token_file));
    let chassis =
        Chassis::without_database("trace-relay", config.http, &config.identity, &config.demo)?;
    Ok(chassis.serve(Api::openapi(), move |routes| {
        routes.app_data(token.clone()).service(pass_on);
    }))
}

#[utoipa::path(responses((status = 200, description = "Every call was answered")))]
#[post("/relay")]
async fn pass_on(
    request: HttpRequest,
    token: web::Data<TokenFile>,
    JsonBody(calls): JsonBody<Vec<Call>>,
) -> Result<HttpResponse, Problem> {
    let deadline = deadline_of(&request);
    let mut answers = Vec::with_capacity(calls.len());
    for Call { url, arguments } in calls {
        let failed = |error: &dyn std::fmt::Display| Problem::internal(error);
        let url = Url::parse(&url).map_err(|error| Problem::invalid_field("url", error))?;
        let origin = url.origin().ascii_serialization();
        let client = Client::new("trace-relay", &origin, TokenFile::clone(&token))
            .map_err(|error| failed(&error))?;
        let call = client.post(url.path()).json(&arguments);
        let answer: Value = client
            .send(call, deadline)
            .await
            .map_err(|error| failed(&error))?;
        answers.push(answer);
    }
    Ok(HttpResponse::Ok().json(answers))
}
