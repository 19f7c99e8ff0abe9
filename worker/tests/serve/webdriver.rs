//! A real browser: headless Chromium, told what to do over W3C WebDriver, which is JSON over HTTP.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value as Json, json};

use super::server::agent;

/// How long the page may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A browser window with its driver; both end with it.
pub struct Browser {
    driver: Child,
    session: String,
    profile: tempfile::TempDir,
}

impl Browser {
    /// Starts `chromedriver` and a window. `tests/run` installs both (Debian: chromium, chromium-driver).
    pub fn start() -> Self {
        let mut driver = Command::new("chromedriver")
            .args(["--port=0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts; tests/run installs it (Debian: apt-get install chromium chromium-driver)");
        let mut lines = BufReader::new(driver.stdout.take().expect("it is piped")).lines();
        let port = lines
            .find_map(|line| Some(line.ok()?.split_once("successfully on port ")?.1.trim_end_matches('.').to_owned()))
            .expect("chromedriver tells its port");
        // The driver must not stumble over a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let profile = tempfile::tempdir().expect("a directory for the profile");
        let mut browser = Self { driver, session: format!("http://127.0.0.1:{port}"), profile };
        let options = json!({
            "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1440,1800",
                "--no-first-run", "--disable-background-networking",
                format!("--user-data-dir={}", browser.profile.path().display()),
            ],
            "perfLoggingPrefs": { "enableNetwork": true },
        });
        let wanted = json!({
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        });
        let session = browser.post("/session", &json!({ "capabilities": { "alwaysMatch": wanted } }));
        browser.session += &format!("/session/{}", session["sessionId"].as_str().expect("a session"));
        browser
    }

    /// Opens a page and waits for its load event.
    pub fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// Runs a script in the page; returns what it returns.
    pub fn run(&self, script: &str) -> Json {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until the script returns `expected`; returns how long it took.
    pub fn wait_for(&self, script: &str, expected: &Json) -> Duration {
        let start = Instant::now();
        loop {
            let found = self.run(script);
            if found == *expected {
                return start.elapsed();
            }
            if start.elapsed() > PATIENCE {
                let page = self.run("return document.body.innerText");
                panic!(
                    "{script}\ngives {found}, not {expected}; the page says:\n{}",
                    page.as_str().unwrap_or_default()
                );
            }
            std::thread::yield_now();
        }
    }

    /// What the console and the network (`"browser"`, `"performance"`) said since the last call.
    pub fn log(&self, kind: &str) -> Vec<Json> {
        self.post("/se/log", &json!({ "type": kind })).as_array().expect("a list").clone()
    }

    fn post(&self, path: &str, body: &Json) -> Json {
        let mut answer =
            agent().post(format!("{}{path}", self.session)).send(body.to_string()).expect("the driver answers");
        let text = answer.body_mut().read_to_string().expect("the driver answers with text");
        let answer: Json = serde_json::from_str(&text).expect("the driver answers with JSON");
        assert!(answer["value"]["error"].is_null(), "{path} {body}: {}", answer["value"]["message"]);
        answer["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Closing the session ends the browser; without it, the driver's death would leave it behind.
        let _closed = agent().delete(&self.session).call();
        let _gone = self.driver.kill();
        let _reaped = self.driver.wait();
    }
}
