//! Does in a browser what the front page suggests, and checks the page meanwhile.
//!
//! `cargo xtask verify page` starts a stack for it; `page --url http://127.0.0.1:8080` uses a running one.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use chassis::{
    identity::{DevelopmentKey, Principal, Role},
    settings::IdentitySettings,
};
use clap::Parser;
use e2e::page::{Browser, docs, looks, walk};

/// Opens the front page in Chromium, breaks and mends what it offers, and checks what it shows
#[derive(Parser)]
struct Arguments {
    /// The URL of the front page
    #[arg(long, default_value = "http://127.0.0.1:7000")]
    url: String,
    /// A folder to which screenshots are written
    #[arg(long)]
    screenshots: Option<PathBuf>,
    /// The identity settings of the stack, which the customer's token must match
    #[command(flatten)]
    identity: IdentitySettings,
}

/// Signs a customer's token, valid for ten minutes.
fn token(identity: &IdentitySettings) -> anyhow::Result<String> {
    let principal = Principal {
        id: "page.test".parse()?,
        role: Role::Customer,
        email: None,
    };
    let key = DevelopmentKey::load(&identity.environment)?;
    let (issuer, audience) = (&identity.token_issuer, &identity.token_audience);
    Ok(key.sign(&principal, issuer, audience, Duration::from_secs(600))?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let Arguments {
        url,
        screenshots,
        identity,
    } = Arguments::parse();
    let token = token(&identity)?;
    let browser = Browser::start().await?;
    let outcome = async {
        browser.open(&url).await?;
        walk::all(&browser, screenshots.as_deref()).await?;
        looks::all(&browser, screenshots.as_deref()).await?;
        browser.open(&url).await?;
        docs::list_orders(&browser, &token)
            .await
            .context("the order service's API, tried in Swagger UI")
    };
    let outcome = tokio::select! {
        outcome = outcome => outcome,
        interrupted = tokio::signal::ctrl_c() => interrupted.context("interrupted").and(Err(anyhow::anyhow!("interrupted"))),
    };
    if outcome.is_err() {
        walk::mend(&browser).await;
    }
    // The browser ends with its session, which is closed also if a check failed.
    let closed = browser.close().await;
    outcome.and(closed)
}
