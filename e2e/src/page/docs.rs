//! A request from Swagger UI, the page on which a service's API can be tried by its served document.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::Browser;

/// The time within which the page must show a change.
const SOON: Duration = Duration::from_secs(30);

/// Sends a request for a list of orders from Swagger UI, as a person does: with a token, and with the form's defaults.
///
/// The browser must show the front page, which links to the order service's page.
pub async fn list_orders(browser: &Browser, token: &str) -> Result<()> {
    let find = "fetch('/room/config').then((answer) => answer.json())\
                .then((config) => config.links.find((link) => link.name === 'order API').url)\
                .then((url) => new URL(url, location.href).href)";
    let url = browser.ask(find, &[]).await?;
    let url = url.as_str().context("the front page names no order API")?;
    browser.open(url).await?;
    let operation = "#operations-orders-list_orders";
    let is_there = "document.querySelector(arguments[0]) !== null";
    browser
        .until(
            "the operation is shown",
            SOON,
            is_there,
            &[json!(operation)],
        )
        .await?;
    // Does what the button Authorize does.
    browser
        .ask(
            "window.ui.preauthorizeApiKey('bearer', arguments[0]), true",
            &[json!(token)],
        )
        .await?;
    browser
        .click(&format!("{operation} .opblock-summary-control"))
        .await?;
    let execute = format!("{operation} button.execute");
    browser
        .until("the form is open", SOON, is_there, &[json!(execute)])
        .await?;
    browser.click(&execute).await?;
    let status = format!("{operation} .live-responses-table .response-col_status");
    browser
        .until("an answer is shown", SOON, is_there, &[json!(status)])
        .await?;
    let shown = "document.querySelector(arguments[0]).innerText";
    let text = browser
        .ask(shown, &[json!(format!("{status}:not(.col_header)"))])
        .await?;
    let text = text.as_str().unwrap_or_default();
    ensure!(
        text.starts_with("200"),
        "Swagger UI shows the response {text:?}"
    );
    Ok(())
}
