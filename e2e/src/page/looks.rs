//! The page's layout and colours, and the browser's console.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::Browser;

/// The largest size of a screenshot, in bytes: screenshots are kept in the repository.
const MOST: usize = 230_000;

/// A window size and a colour scheme.
struct Look {
    name: &'static str,
    width: u32,
    height: u32,
    scheme: &'static str,
}

const LOOKS: [Look; 3] = [
    Look {
        name: "front-page-light",
        width: 1280,
        height: 800,
        scheme: "light",
    },
    Look {
        name: "front-page-dark",
        width: 1280,
        height: 800,
        scheme: "dark",
    },
    Look {
        name: "front-page-phone",
        width: 360,
        height: 900,
        scheme: "light",
    },
];

/// Checks in each look that no element is wider than the screen and that the colour scheme is followed. Then checks the
/// console.
pub async fn all(browser: &Browser, pictures: Option<&Path>) -> Result<()> {
    browser.click("#filter option[value=all]").await?;
    // An element that moves cannot be clicked.
    browser.click("#hold").await?;
    let mut grounds = Vec::new();
    for look in &LOOKS {
        grounds.push(one(browser, look, pictures).await.context(look.name)?);
    }
    ensure!(grounds[0] != grounds[1], "dark is as light: {grounds:?}");
    console(browser).await
}

async fn one(browser: &Browser, look: &Look, pictures: Option<&Path>) -> Result<String> {
    let Look {
        name,
        width,
        height,
        scheme,
    } = look;
    let feature = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
    browser
        .devtools("Emulation.setEmulatedMedia", json!({ "features": feature }))
        .await?;
    resize(browser, *width, *height).await?;
    keep(browser, pictures, name).await?;
    // The details of an order are the widest part of the page, and those of an orchestrated order the widest of all.
    let orchestrated = "#orders-table [data-way=orchestration]";
    let known = "document.querySelector(arguments[0]) !== null";
    let row = if browser.ask(known, &[json!(orchestrated)]).await? == json!(true) {
        orchestrated
    } else {
        "#orders-table [data-order]"
    };
    let toggle = format!("{row} button[aria-expanded]");
    browser.click(&toggle).await?;
    if row == orchestrated {
        let saga = json!(format!("{row} .saga tbody tr"));
        let soon = Duration::from_secs(10);
        browser
            .until("its saga is shown", soon, known, &[saga])
            .await?;
    }
    fits(browser, *width).await?;
    browser
        .click(&format!("{toggle}[aria-expanded=true]"))
        .await?;
    let ground = browser
        .ask("getComputedStyle(document.body).backgroundColor", &[])
        .await?;
    Ok(ground.to_string())
}

/// Gives the page this size, and scrolls to its top.
async fn resize(browser: &Browser, width: u32, height: u32) -> Result<()> {
    let metrics =
        json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
    browser
        .devtools("Emulation.setDeviceMetricsOverride", metrics)
        .await?;
    let sized = "innerWidth === arguments[0] && scrollY === 0 || (scrollTo({ top: 0, behavior: 'instant' }), false)";
    browser
        .until(
            "the size is taken on",
            Duration::from_secs(10),
            sized,
            &[json!(width)],
        )
        .await
}

/// Fails if an element is wider than the screen.
async fn fits(browser: &Browser, width: u32) -> Result<()> {
    let wide = "[...document.querySelectorAll('body *')].filter((shown) => shown.getBoundingClientRect().right > innerWidth + 1 \
                && !shown.closest('.unseen, .skip, thead, pre')).map((shown) => shown.outerHTML.slice(0, 120))";
    let wide = browser.ask(wide, &[]).await?;
    let scrolls = browser
        .ask("document.documentElement.scrollWidth > innerWidth", &[])
        .await?;
    ensure!(
        scrolls == json!(false) && wide == json!([]),
        "wider than {width}: {wide}"
    );
    Ok(())
}

/// Checks that the page fits a phone's screen, and restores the size.
pub(super) async fn fits_a_phone(browser: &Browser) -> Result<()> {
    let phone = &LOOKS[2];
    resize(browser, phone.width, phone.height).await?;
    let fitting = fits(browser, phone.width).await;
    browser
        .devtools("Emulation.clearDeviceMetricsOverride", json!({}))
        .await?;
    fitting
}

/// Takes a screenshot with the element at `css` at the top of the window.
pub(super) async fn scene(
    browser: &Browser,
    pictures: Option<&Path>,
    name: &str,
    css: &str,
) -> Result<()> {
    let shown = "document.querySelector(arguments[0]).scrollIntoView({ block: 'start', behavior: 'instant' }) ?? true";
    browser.ask(shown, &[json!(css)]).await?;
    keep(browser, pictures, name).await
}

async fn keep(browser: &Browser, pictures: Option<&Path>, name: &str) -> Result<()> {
    let Some(folder) = pictures else {
        return Ok(());
    };
    let picture = browser.picture().await?;
    let size = picture.len();
    ensure!(size <= MOST, "{name}: a picture of {size} bytes");
    fs::create_dir_all(folder)?;
    Ok(fs::write(folder.join(format!("{name}.png")), picture)?)
}

/// Fails if the console has an entry other than the refusal that the test provoked.
async fn console(browser: &Browser) -> Result<()> {
    let wrong: Vec<String> = browser
        .console()
        .await?
        .into_iter()
        .filter(|(level, text)| {
            level != "INFO" && !(text.contains("/room/orders") && text.contains("422"))
        })
        .map(|(level, text)| format!("{level}: {text}"))
        .collect();
    ensure!(wrong.is_empty(), "in the console:\n{}", wrong.join("\n"));
    Ok(())
}
