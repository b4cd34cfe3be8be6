//! A headless Chromium, told what to do over its pipe (the DevTools protocol).

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::shell::{Failure, succeeds};

/// Names under which systems have it.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// A browser with one page open.
pub struct Browser {
    process: Child,
    to: File,
    from: BufReader<File>,
    session: String,
    number: u64,
    /// Whether the page that was last opened is shown.
    loaded: bool,
    /// What the console said, and what failed to load.
    complaints: Vec<String>,
}

impl Browser {
    /// Starts one that keeps all that it writes in this folder.
    pub fn start(folder: &Path) -> Result<Self, Failure> {
        let name = NAMES.into_iter().find(|name| succeeds(Command::new(name).arg("--version")));
        let name = name.ok_or_else(|| {
            Failure::new("no Chromium was found; install it (Debian: apt-get install chromium)")
        })?;
        let fail = |error: std::io::Error| Failure::new(format!("{name}: {error}"));
        let pipes = ["to", "from"].map(|pipe| folder.join(pipe));
        for pipe in &pipes {
            let _ = std::fs::remove_file(pipe);
            crate::shell::run(Command::new("mkfifo").arg(pipe))?;
        }
        let options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--remote-debugging-pipe",
        ];
        let process = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<\"$TO\" 4>\"$FROM\"", "sh", name])
            .args(options)
            .arg(format!("--user-data-dir={}", folder.join("profile").display()))
            .arg("about:blank")
            .env("TO", &pipes[0])
            .env("FROM", &pipes[1])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(fail)?;
        // Opened in the order in which the shell opens them: each waits for the other side.
        let to = OpenOptions::new().write(true).open(&pipes[0]).map_err(fail)?;
        let from = BufReader::new(File::open(&pipes[1]).map_err(fail)?);
        let (session, complaints) = (String::new(), Vec::new());
        let mut browser = Self { process, to, from, session, number: 0, loaded: false, complaints };
        let targets = browser.call("Target.getTargets", json!({}))?;
        let page = targets["targetInfos"].as_array().into_iter().flatten();
        let page = page.into_iter().find(|target| target["type"] == "page");
        let target = page.map(|target| target["targetId"].clone()).unwrap_or_default();
        let attach = json!({"targetId": target, "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach)?;
        browser.session = attached["sessionId"].as_str().unwrap_or_default().to_string();
        for domain in ["Page.enable", "Runtime.enable", "Log.enable", "Network.enable"] {
            browser.call(domain, json!({}))?;
        }
        Ok(browser)
    }

    /// Calls a method of the protocol; its result.
    pub fn call(&mut self, method: &str, parameters: Value) -> Result<Value, Failure> {
        self.number += 1;
        let mut message = json!({"id": self.number, "method": method, "params": parameters});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let bytes = [message.to_string().as_bytes(), b"\0"].concat();
        let fail = |problem: String| Failure::new(format!("the browser, {method}: {problem}"));
        self.to.write_all(&bytes).map_err(|error| fail(error.to_string()))?;
        loop {
            let answer = self.read()?;
            if answer["id"] == self.number {
                return match answer.get("error") {
                    Some(error) => Err(fail(error["message"].to_string())),
                    None => Ok(answer["result"].clone()),
                };
            }
        }
    }

    /// The next message; complaints are kept.
    fn read(&mut self) -> Result<Value, Failure> {
        let mut bytes = Vec::new();
        let read = self.from.read_until(0, &mut bytes);
        if !read.is_ok_and(|count| count > 1) {
            return Err(Failure::new("the browser has ended"));
        }
        bytes.pop();
        let message: Value = serde_json::from_slice(&bytes)
            .map_err(|error| Failure::new(format!("the browser's message: {error}")))?;
        let parameters = &message["params"];
        match message["method"].as_str().unwrap_or_default() {
            "Page.loadEventFired" => self.loaded = true,
            "Runtime.consoleAPICalled" => {
                self.complaints.push(format!("console: {}", parameters["args"]));
            }
            "Runtime.exceptionThrown" => {
                self.complaints.push(format!("exception: {}", parameters["exceptionDetails"]));
            }
            "Log.entryAdded" => {
                self.complaints.push(format!("log: {}", parameters["entry"]["text"]));
            }
            "Network.requestWillBeSent" => {
                let url = parameters["request"]["url"].as_str().unwrap_or_default();
                let own = ["file:", "data:", "blob:", "about:", "http://127.0.0.1"];
                if !own.iter().any(|begin| url.starts_with(begin)) {
                    self.complaints.push(format!("it asks for {url}"));
                }
            }
            _ => {}
        }
        Ok(message)
    }

    /// Opens an address, and waits until it is shown.
    pub fn open(&mut self, address: &str) -> Result<(), Failure> {
        self.loaded = false;
        let opened = self.call("Page.navigate", json!({"url": address}))?;
        if let Some(error) = opened["errorText"].as_str() {
            return Err(Failure::new(format!("{address}: {error}")));
        }
        while !self.loaded {
            self.read()?;
        }
        Ok(())
    }

    /// The value of a script in the page.
    pub fn value(&mut self, script: &str) -> Result<Value, Failure> {
        let asked = json!({"expression": script, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", asked)?;
        Ok(answer["result"]["value"].clone())
    }

    /// What there was to complain about since the last time.
    pub fn complaints(&mut self) -> Vec<String> {
        std::mem::take(&mut self.complaints)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
