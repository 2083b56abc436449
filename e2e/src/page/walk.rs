//! A walk through everything that the front page suggests to try.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Browser, looks};

/// The time within which the page must show what the control room has sent it.
const SOON: Duration = Duration::from_secs(20);
/// The time within which waiting orders must come to rest once nothing fails any more: breakers and retries have their
/// waits.
const REST: Duration = Duration::from_secs(120);
/// Keys, by their WebDriver code points.
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
/// A customer that no other test uses.
const CUSTOMER: &str = "page.test";

/// Takes every step of the walk, in order.
pub async fn all(browser: &Browser, pictures: Option<&Path>) -> Result<()> {
    begin(browser).await?;
    let first = by_keyboard(browser).await.context("by keyboard alone")?;
    // On a stack with traffic, the orders of other customers push ours off the table.
    browser.click("#filter option[value=mine]").await?;
    rests(browser, &first, "confirmed").await?;
    resend(browser, &first)
        .await
        .context("the same key again")?;
    refused(browser)
        .await
        .context("a quantity beyond its limit")?;
    each_way(browser, pictures)
        .await
        .context("the same order, each way")?;
    outage(browser, pictures)
        .await
        .context("the card processor breaks")?;
    poison(browser, pictures)
        .await
        .context("a poisoned message")?;
    browser
        .until(
            "nothing in the books is broken",
            REST,
            "['holds', 'waits'].includes(document.querySelector('#verdict').dataset.verdict)",
            &[],
        )
        .await
}

/// Resets the card processor after a failure. An error here is ignored: the caller already has a better one.
pub async fn mend(browser: &Browser) {
    let _ = browser.click("[data-preset=Normal]").await;
}

async fn begin(browser: &Browser) -> Result<()> {
    let connected = "document.querySelector('#connection').dataset.state === 'connected'";
    browser.until("connected", SOON, connected, &[]).await?;
    let products = "document.querySelectorAll('#sku option').length > 0";
    browser.until("products", SOON, products, &[]).await?;
    let ready = "document.querySelectorAll('#services [data-ready=true]').length === 6";
    browser
        .until("every service is ready", SOON, ready, &[])
        .await
}

/// Places an order without the mouse. The focus must reach the fields in their order, and be visible on each.
async fn by_keyboard(browser: &Browser) -> Result<String> {
    let focused = "[document.activeElement.id || document.activeElement.type, \
                   getComputedStyle(document.activeElement).outlineStyle !== 'none']";
    let mut met = Vec::new();
    for _ in 0..60 {
        browser.press(TAB).await?;
        let at = browser.ask(focused, &[]).await?;
        ensure!(at[1] == json!(true), "the focus is not seen on {}", at[0]);
        let name = at[0].as_str().unwrap_or_default().to_owned();
        met.push(name.clone());
        match name.as_str() {
            // The Tab key selects the field's text, so that typing replaces it.
            "customer" => browser.press(CUSTOMER).await?,
            "sku" => browser.press("Earl").await?,
            "submit" => {
                let fields: Vec<&str> =
                    met.iter().rev().take(6).rev().map(String::as_str).collect();
                let order = [
                    "customer",
                    "sku",
                    "quantity",
                    "payment",
                    "coordination",
                    "submit",
                ];
                ensure!(fields == order, "the focus went by {met:?}");
                browser.press(ENTER).await?;
                return placed(browser, "").await;
            }
            _ => {}
        }
    }
    anyhow::bail!("the focus never came to the button; it went by {met:?}")
}

/// Returns the id of the order that was just placed from the form, which differs from `before`.
async fn placed(browser: &Browser, before: &str) -> Result<String> {
    let other = "(document.querySelector('#place-outcome').dataset.order ?? '') !== arguments[0]";
    browser
        .until("the order is accepted", SOON, other, &[json!(before)])
        .await?;
    let id = browser
        .ask(
            "document.querySelector('#place-outcome').dataset.order",
            &[],
        )
        .await?;
    id.as_str().map(str::to_owned).context("an order has no id")
}

async fn current(browser: &Browser) -> Result<String> {
    let id = browser
        .ask(
            "document.querySelector('#place-outcome').dataset.order ?? ''",
            &[],
        )
        .await?;
    Ok(id.as_str().unwrap_or_default().to_owned())
}

async fn place(browser: &Browser, payment: &str) -> Result<String> {
    let before = current(browser).await?;
    browser
        .click(&format!("#payment option[value={payment}]"))
        .await?;
    browser.click("#place-form button[type=submit]").await?;
    placed(browser, &before).await
}

/// Waits until an order is at rest, and checks that it ended in `state`.
async fn rests(browser: &Browser, id: &str, state: &str) -> Result<()> {
    let rests = "document.querySelector(`[data-order='${arguments[0]}'][data-state]`)?.dataset.rest === 'true'";
    browser
        .until(format!("order {id} rests"), REST, rests, &[json!(id)])
        .await?;
    let ended = standing(browser, id).await?;
    ensure!(ended == state, "order {id} ended {ended}, not {state}");
    Ok(())
}

/// Waits until an order is shown, and checks that it is still undecided.
async fn waits(browser: &Browser, id: &str) -> Result<()> {
    let shown = "document.querySelector(`[data-order='${arguments[0]}'][data-state]`) !== null";
    browser
        .until(format!("order {id} is shown"), SOON, shown, &[json!(id)])
        .await?;
    let state = standing(browser, id).await?;
    ensure!(
        state == "pending",
        "order {id} is {state}, and does not wait"
    );
    Ok(())
}

async fn standing(browser: &Browser, id: &str) -> Result<String> {
    let state =
        "document.querySelector(`[data-order='${arguments[0]}'][data-state]`).dataset.state";
    let state = browser.ask(state, &[json!(id)]).await?;
    Ok(state.as_str().unwrap_or_default().to_owned())
}

/// Checks that the same idempotency key returns the same order.
async fn resend(browser: &Browser, first: &str) -> Result<()> {
    browser.click("#again").await?;
    let said = "document.querySelector('#place-outcome').textContent.startsWith('Again order')";
    browser
        .until("the answer to the same key", SOON, said, &[])
        .await?;
    ensure!(
        current(browser).await? == first,
        "the same key made another order"
    );
    Ok(())
}

/// Checks that a refused quantity is reported at its field, with the limit, and that the field gets the focus.
async fn refused(browser: &Browser) -> Result<()> {
    let quantity = browser.find("#quantity").await?;
    quantity.clear().await?;
    quantity.send_keys("100000").await?;
    browser.click("#place-form button[type=submit]").await?;
    let said = "document.querySelector('#quantity-error').textContent.includes('1000') \
                && document.activeElement.id === 'quantity' \
                && document.activeElement.getAttribute('aria-invalid') === 'true'";
    browser
        .until("an error at the quantity", SOON, said, &[])
        .await?;
    quantity.clear().await?;
    Ok(quantity.send_keys("1").await?)
}

/// Places the same order in both ways of coordination, and checks that each is shown at rest with its steps, beside the
/// other and in the table.
async fn each_way(browser: &Browser, pictures: Option<&Path>) -> Result<()> {
    let before = current(browser).await?;
    browser.click("#coordination option[value=both]").await?;
    browser.click("#place-form button[type=submit]").await?;
    let both = placed(browser, &before).await?;
    browser
        .click("#coordination option[value=choreography]")
        .await?;
    let (choreographed, orchestrated) = both.split_once(' ').context("not two orders")?;
    for id in [choreographed, orchestrated] {
        rests(browser, id, "confirmed").await?;
    }
    // The steps by the page's names in each way of coordination. The last one completes the order.
    for (id, steps) in [
        (choreographed, ["created", "paid", "reserved", "sold"]),
        (
            orchestrated,
            [
                "charge → paid",
                "reserve → reserved",
                "sell → sold",
                "complete → completed",
            ],
        ),
    ] {
        let shown = "arguments[1].every((step) => document.querySelector(`[data-pair='${arguments[0]}'][data-rest=true] .column`)?.innerText.includes(step))";
        browser
            .until(
                format!("order {id} is shown with {steps:?}"),
                SOON,
                shown,
                &[json!(id), json!(steps)],
            )
            .await?;
    }
    looks::fits_a_phone(browser).await?;
    looks::scene(browser, pictures, "front-page-each-way", "#orders").await?;
    // An opened row shows the order's saga.
    let row = format!("#orders-table [data-order='{orchestrated}']");
    let toggle = format!("{row} button[aria-expanded]");
    browser.click(&toggle).await?;
    let saga = "[...document.querySelectorAll(`${arguments[0]} .saga[data-phase=completed] tbody tr`)]                .some((row) => row.innerText.includes('charge payment') && row.innerText.includes('payment completed'))";
    browser
        .until("its saga is shown as completed", SOON, saga, &[json!(row)])
        .await?;
    browser.click(&toggle).await?;
    browser.click("#pair-close").await?;
    let closed = "document.querySelector('#pair').hidden && document.activeElement.id === 'orders'";
    browser
        .until("the comparison is closed", SOON, closed, &[])
        .await
}

/// Makes the card processor fail: orders by card wait while others go on, and all come to rest afterwards.
async fn outage(browser: &Browser, pictures: Option<&Path>) -> Result<()> {
    knobs(browser, "Fails").await?;
    let by_card = [
        place(browser, "tok_visa").await?,
        place(browser, "tok_visa").await?,
    ];
    let by_wallet = place(browser, "wallet").await?;
    // A new customer's wallet may be empty or not. The order ends either way, without the card processor.
    let rested = "document.querySelector(`[data-order='${arguments[0]}'][data-state]`)?.dataset.rest === 'true'";
    browser
        .until(
            "an order without a card rests",
            REST,
            rested,
            &[json!(by_wallet)],
        )
        .await?;
    for id in &by_card {
        waits(browser, id)
            .await
            .context("its card cannot be charged")?;
    }
    looks::scene(browser, pictures, "front-page-waiting", "#services").await?;
    knobs(browser, "Normal").await?;
    for id in &by_card {
        rests(browser, id, "confirmed").await?;
    }
    Ok(())
}

/// Presses a preset of the card processor, and waits until the page shows it as set.
async fn knobs(browser: &Browser, preset: &str) -> Result<()> {
    browser.click(&format!("[data-preset={preset}]")).await?;
    let turned = "document.querySelector(`[data-preset='${arguments[0]}']`).getAttribute('aria-pressed') === 'true'";
    browser
        .until(
            format!("the card processor stands at {preset}"),
            SOON,
            turned,
            &[json!(preset)],
        )
        .await
}

/// Parks a malformed message, edits and requeues it, and waits until its order is at rest.
async fn poison(browser: &Browser, pictures: Option<&Path>) -> Result<()> {
    let (item, order) = park(browser).await?;
    let item = format!("[data-parked='{item}']");
    // The page learns of the message and of the order from two sources, either one first.
    waits(browser, &order).await?;

    browser.click(&format!("{item} > summary")).await?;
    let area = format!("{item} textarea");
    let there = "document.querySelector(arguments[0]) !== null";
    browser
        .until("its payload", SOON, there, &[json!(area)])
        .await?;
    let area = browser.find(&area).await?;
    let damaged = area.prop("value").await?.context("no payload")?;
    let mut mended: Value = serde_json::from_str(&damaged)?;
    ensure!(
        mended["order_version"].is_string(),
        "this is not damaged as expected: {damaged}"
    );
    mended["order_version"] = json!(1);
    area.clear().await?;
    area.send_keys(&mended.to_string()).await?;

    // An operator action needs a note.
    let said = |what: &str| {
        format!("document.querySelector(`{item} [role=status]`).textContent.includes('{what}')")
    };
    browser
        .click(&format!("{item} [data-deed='Save edit']"))
        .await?;
    browser
        .until("it asks for a note", SOON, &said("say why"), &[])
        .await?;
    browser.press("the version is a number").await?;
    browser
        .click(&format!("{item} [data-deed='Save edit']"))
        .await?;
    browser
        .until("the edit is saved", SOON, &said("Saved"), &[])
        .await?;
    looks::scene(browser, pictures, "front-page-parked", &item).await?;
    browser
        .click(&format!("{item} [data-deed=Requeue]"))
        .await?;
    rests(browser, &order, "confirmed").await
}

/// Has a malformed message parked. Returns its id in the parking lot, and that of its order.
async fn park(browser: &Browser) -> Result<(String, String)> {
    let known = browser
        .ask(
            "[...document.querySelectorAll('[data-parked]')].map((item) => item.dataset.parked)",
            &[],
        )
        .await?;
    browser.click("[data-poison=malformed]").await?;
    let fresh = "[...document.querySelectorAll('[data-parked][data-order]')].some((item) => !arguments[0].includes(item.dataset.parked))";
    browser
        .until(
            "a message is parked",
            SOON,
            fresh,
            std::slice::from_ref(&known),
        )
        .await?;
    let fresh = "[...document.querySelectorAll('[data-parked][data-order]')]\
                 .filter((item) => !arguments[0].includes(item.dataset.parked))\
                 .map((item) => [item.dataset.parked, item.dataset.order])[0]";
    let fresh = browser.ask(fresh, &[known]).await?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    text(&fresh[0])
        .zip(text(&fresh[1]))
        .context("no parked message")
}
