//! How the page looks, and what the browser complained of.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::Browser;

/// What a picture may weigh, in bytes: they are kept in the repository.
const MOST: usize = 230_000;

/// A way of looking at it.
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

/// Each of them: nothing is wider than the screen, and the scheme is followed. Then the console.
pub async fn all(browser: &Browser, pictures: Option<&Path>) -> Result<()> {
    browser.click("#filter option[value=all]").await?;
    // What moves cannot be clicked.
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
    // With the details of an order open, which are the widest: those of an orchestrated one, if there is one.
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

/// Gives the page this size, and looks at its beginning.
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

/// Nothing is wider than the screen.
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

/// A page that fits a phone, too; then it is as it was.
pub(super) async fn fits_a_phone(browser: &Browser) -> Result<()> {
    let phone = &LOOKS[2];
    resize(browser, phone.width, phone.height).await?;
    let fitting = fits(browser, phone.width).await;
    browser
        .devtools("Emulation.clearDeviceMetricsOverride", json!({}))
        .await?;
    fitting
}

/// A picture of what stands at `css`, in the middle of what it is about.
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

/// Nothing is in the console but the refusal that was provoked.
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
