//! A Chromium process, driven by its own chromedriver.

use std::{
    fmt, fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use fantoccini::{
    Client, ClientBuilder, Locator,
    actions::{InputSource, KeyAction, KeyActions},
    elements::Element,
    wd::{Capabilities, WebDriverCompatibleCommand},
};
use holdfast::backoff;
use hyper_util::client::legacy::connect::HttpConnector;
use reqwest::{Method, Url};
use serde_json::{Value, json};

/// The pause between two looks at a condition.
const LOOK: Duration = Duration::from_millis(50);

/// A browser with one page.
pub struct Browser {
    client: Client,
    /// The driver's process, killed on drop.
    _driver: Driver,
}

/// A chromedriver process, and the folder with its browser's profile.
struct Driver {
    child: Child,
    profile: PathBuf,
}

impl Drop for Driver {
    fn drop(&mut self) {
        // An error means that the process has already ended, or that the folder does not exist.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.profile);
    }
}

impl Driver {
    /// Starts chromedriver on a free port, and returns that port.
    fn start() -> Result<(Self, u16)> {
        let name = format!("holdfast-page-{}", std::process::id());
        let profile = std::env::temp_dir().join(name);
        fs::create_dir_all(&profile).with_context(|| profile.display().to_string())?;
        let mut child = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run chromedriver: Debian's package is chromium-driver")?;
        let told = child
            .stdout
            .take()
            .context("chromedriver has no standard output")?;
        let driver = Self { child, profile };
        for line in BufReader::new(told).lines() {
            let line = line?;
            let port = line
                .strip_prefix("ChromeDriver was started successfully on port ")
                .and_then(|rest| rest.trim_end_matches('.').parse().ok());
            if let Some(port) = port {
                return Ok((driver, port));
            }
        }
        bail!("chromedriver ended before it was ready")
    }
}

/// A command that chromedriver has beyond those of WebDriver.
#[derive(Debug)]
struct Own {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Own {
    fn endpoint(
        &self,
        base: &Url,
        session: Option<&str>,
    ) -> Result<Url, <Url as std::str::FromStr>::Err> {
        base.join(&format!(
            "session/{}/{}",
            session.unwrap_or_default(),
            self.path
        ))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}

impl Browser {
    /// Starts a headless browser with an empty profile.
    pub async fn start() -> Result<Self> {
        let (driver, port) = Driver::start()?;
        let profile = format!("--user-data-dir={}", driver.profile.display());
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            // An element that still scrolls cannot be clicked.
            "--force-prefers-reduced-motion",
            "--window-size=1280,900",
            &profile,
        ];
        let capabilities = json!({
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let capabilities: Capabilities = serde_json::from_value(capabilities)?;
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .context("chromedriver cannot start a browser: Debian's package is chromium")?;
        Ok(Self {
            client,
            _driver: driver,
        })
    }

    /// Closes the session, and with it the browser.
    pub async fn close(self) -> Result<()> {
        Ok(self.client.close().await?)
    }

    /// Opens a page.
    pub async fn open(&self, url: &str) -> Result<()> {
        Ok(self.client.goto(url).await?)
    }

    /// Returns the first element that matches `css`.
    pub async fn find(&self, css: &str) -> Result<Element> {
        let found = self.client.find(Locator::Css(css)).await;
        found.with_context(|| format!("the page has no {css}"))
    }

    /// Clicks the first element that matches `css`.
    pub async fn click(&self, css: &str) -> Result<()> {
        let clicked = self.find(css).await?.click().await;
        clicked.with_context(|| format!("cannot click {css}"))
    }

    /// Presses keys one after the other, as on a keyboard: they go to the focused element.
    pub async fn press(&self, keys: &str) -> Result<()> {
        let mut actions = KeyActions::new("keyboard".to_owned());
        for value in keys.chars() {
            actions = actions
                .then(KeyAction::Down { value })
                .then(KeyAction::Up { value });
        }
        Ok(self.client.perform_actions(actions).await?)
    }

    /// Evaluates a JavaScript expression in the page.
    pub async fn ask(&self, expression: &str, arguments: &[Value]) -> Result<Value> {
        let script = format!("return {expression};");
        let answer = self.client.execute(&script, arguments.to_vec()).await;
        answer.with_context(|| expression.to_owned())
    }

    /// Waits until a JavaScript expression is true in the page. After `within`, fails with what the page shows.
    pub async fn until(
        &self,
        what: impl fmt::Display,
        within: Duration,
        expression: &str,
        arguments: &[Value],
    ) -> Result<()> {
        let begun = Instant::now();
        while self.ask(expression, arguments).await? != json!(true) {
            if begun.elapsed() > within {
                let seen = "[...document.querySelectorAll('[role=status]:not(:empty), tbody[data-mine=true], .item')]\
                            .map((shown) => shown.innerText).join('\\n')";
                let seen = self.ask(seen, &[]).await?;
                bail!(
                    "not within {within:?}: {what}; the page says:\n{}",
                    seen.as_str().unwrap_or_default()
                );
            }
            backoff::pause(LOOK).await;
        }
        Ok(())
    }

    /// Sends a command of the DevTools protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Result<Value> {
        let body = json!({ "cmd": command, "params": parameters });
        let path = "goog/cdp/execute";
        let answer = self.client.issue_cmd(Own { path, body }).await;
        answer.with_context(|| command.to_owned())
    }

    /// Returns the console's entries since the last call, each as level and text.
    pub async fn console(&self) -> Result<Vec<(String, String)>> {
        let path = "se/log";
        let body = json!({ "type": "browser" });
        let entries = self.client.issue_cmd(Own { path, body }).await?;
        let entries = entries.as_array().context("no list of entries")?;
        let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or("").to_owned();
        Ok(entries
            .iter()
            .map(|entry| (text(entry, "level"), text(entry, "message")))
            .collect())
    }

    /// Takes a screenshot of the visible part of the page, as PNG.
    pub async fn picture(&self) -> Result<Vec<u8>> {
        let picture = self.client.screenshot().await?;
        ensure!(!picture.is_empty(), "an empty picture");
        Ok(picture)
    }
}
