//! A page in Debian's headless Chromium: what a reader would see and do.
//!
//! Chromium is driven by its own protocol (<https://chromedevtools.github.io/devtools-protocol/>) over two pipes: messages
//! are JSON, each ended by a NUL. What is used of it are some twenty methods, so `serde_json` does; the crates for it
//! bring an HTTP client, web sockets and the whole protocol as generated code.
//!
//! Mouse and keys are real input events: what lies over a button catches the click. Every request of the page is listed,
//! those that its own policy forbade too.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{patience, scratch};

/// Without what would make it ask Google's hosts for things. As root there is no sandbox for it, and it opens nothing but
/// our own pages.
const FLAGS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
];

/// Light or dark, as the system prefers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

/// A key that is not a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The arrow up.
    Up,
    /// The arrow down.
    Down,
    /// The arrow left.
    Left,
    /// The arrow right.
    Right,
    /// To the next element.
    Tab,
    /// The return key.
    Enter,
    /// The escape key.
    Escape,
}

impl Key {
    /// Its name, its number on Windows, and what it writes.
    fn told(self) -> (&'static str, u32, &'static str) {
        match self {
            Self::Up => ("ArrowUp", 38, ""),
            Self::Down => ("ArrowDown", 40, ""),
            Self::Left => ("ArrowLeft", 37, ""),
            Self::Right => ("ArrowRight", 39, ""),
            Self::Tab => ("Tab", 9, ""),
            Self::Enter => ("Enter", 13, "\r"),
            Self::Escape => ("Escape", 27, ""),
        }
    }
}

/// A browser with one page; killed when this is dropped.
///
/// Everything here panics if the page does not do it within [`patience`], or throws.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    connection: RefCell<Connection>,
    /// Its profile, and what it prints.
    directory: TempDir,
    session: String,
}

#[derive(Debug)]
struct Connection {
    commands: ChildStdin,
    messages: Receiver<Value>,
    asked: u64,
    /// What has happened and nobody has looked at.
    events: Vec<Value>,
}

impl Browser {
    /// Starts Chromium with an empty profile and an empty page of 1280 × 900 pixels.
    #[track_caller]
    pub fn start() -> Self {
        let directory = scratch();
        let said = File::create(directory.path().join("said")).expect("a file can be made");
        let mut child = Command::new("sh")
            // It reads from descriptor 3 and writes to 4.
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >&2"#])
            .arg("chromium")
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", directory.path().display()))
            .arg("about:blank")
            .env("HOME", directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(said)
            .spawn()
            .expect("sh runs");
        let commands = child.stdin.take().expect("it is piped");
        let mut answers = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, messages) = channel();
        thread::spawn(move || {
            let mut message = Vec::new();
            while answers
                .read_until(0, &mut message)
                .is_ok_and(|length| length > 0)
            {
                let text = message.strip_suffix(&[0]).unwrap_or(&message);
                let heard = serde_json::from_slice(text).map(|message| sender.send(message));
                if !matches!(heard, Ok(Ok(()))) {
                    break;
                }
                message.clear();
            }
        });
        let connection = RefCell::new(Connection {
            commands,
            messages,
            asked: 0,
            events: Vec::new(),
        });
        let mut browser = Self {
            child,
            connection,
            directory,
            session: String::new(),
        };
        let page = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let session = browser.call(
            "Target.attachToTarget",
            &json!({ "targetId": page["targetId"], "flatten": true }),
        );
        let session = session["sessionId"].as_str().expect("a session");
        session.clone_into(&mut browser.session);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser.resize(1280, 900);
        browser
    }

    /// Opens a file, and waits until all of it is loaded and drawn.
    #[track_caller]
    pub fn open(&self, file: &Path) {
        let file = file.canonicalize().expect("the page is there");
        self.go_to(&format!("file://{}", file.display()));
    }

    /// Opens an address.
    #[track_caller]
    pub fn go_to(&self, url: &str) {
        self.connection.borrow_mut().events.clear();
        let went = self.call("Page.navigate", &json!({ "url": url }));
        assert_eq!(went["errorText"], Value::Null, "cannot open {url}");
        let end = Instant::now() + patience();
        let loaded = |event: &Value| event["method"] == "Page.loadEventFired";
        while !self.connection.borrow().events.iter().any(loaded) {
            let left = end.saturating_duration_since(Instant::now());
            let received = self.connection.borrow().messages.recv_timeout(left);
            match received {
                Ok(message) => self.connection.borrow_mut().events.push(message),
                Err(error) => self.give_up(&format!("{url} was not loaded: {error}")),
            }
        }
        self.settle();
    }

    /// Evaluates an expression; waits for it if it is a promise. What has no JSON is null.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        let outcome = self.call(
            "Runtime.evaluate",
            &json!({
                "expression": script,
                "returnByValue": true,
                "awaitPromise": true,
                "userGesture": true,
            }),
        );
        let thrown = &outcome["exceptionDetails"];
        assert!(thrown.is_null(), "{script} threw {thrown:#}");
        outcome["result"]["value"].clone()
    }

    /// The text of the first element that a selector finds.
    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        let text = self.run(&format!(
            "document.querySelector({}).textContent",
            json!(selector)
        ));
        text.as_str().expect("text").to_owned()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub fn await_that(&self, script: &str) {
        crate::eventually(script, || self.run(script) == Value::Bool(true));
    }

    /// Waits until what was asked for so far is drawn.
    #[track_caller]
    pub fn settle(&self) {
        self.run(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))",
        );
    }

    /// Where the first element that a selector finds is: left, top, width and height in the window.
    #[track_caller]
    pub fn place(&self, selector: &str) -> [f64; 4] {
        let place = self.run(&format!(
            "(() => {{ const e = document.querySelector({}); e.scrollIntoView({{ block: 'nearest' }}); \
             const r = e.getBoundingClientRect(); return [r.left, r.top, r.width, r.height]; }})()",
            json!(selector)
        ));
        [0, 1, 2, 3].map(|at: usize| place[at].as_f64().expect("a number"))
    }

    /// Moves the mouse there.
    #[track_caller]
    pub fn hover_at(&self, x: f64, y: f64) {
        self.mouse("mouseMoved", x, y, 0);
        self.settle();
    }

    /// Clicks at this point of the window, pixels from its upper left corner.
    #[track_caller]
    pub fn click_at(&self, x: f64, y: f64) {
        self.drag((x, y), (x, y));
    }

    /// Clicks into the middle of the first element that a selector finds.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        let [left, top, width, height] = self.place(selector);
        assert!(width > 0.0 && height > 0.0, "{selector} cannot be seen");
        self.click_at(left + width / 2.0, top + height / 2.0);
    }

    /// Presses the mouse's button at one place, and lets it go at another.
    #[track_caller]
    pub fn drag(&self, from: (f64, f64), to: (f64, f64)) {
        self.mouse("mouseMoved", from.0, from.1, 0);
        self.mouse("mousePressed", from.0, from.1, 1);
        if from != to {
            for step in 1..=4 {
                let part = f64::from(step) / 4.0;
                let at = |from: f64, to: f64| from + (to - from) * part;
                self.mouse("mouseMoved", at(from.0, to.0), at(from.1, to.1), 1);
            }
        }
        self.mouse("mouseReleased", to.0, to.1, 0);
        self.settle();
    }

    fn mouse(&self, kind: &str, x: f64, y: f64, held: u32) {
        let moved = kind == "mouseMoved";
        let button = if moved && held == 0 { "none" } else { "left" };
        self.call(
            "Input.dispatchMouseEvent",
            &json!({ "type": kind, "x": x, "y": y, "button": button, "buttons": held, "clickCount": u32::from(!moved) }),
        );
    }

    /// Presses a key and lets it go.
    #[track_caller]
    pub fn press(&self, key: Key) {
        let (name, number, text) = key.told();
        self.stroke(name, number, text, 0);
    }

    /// The same with Shift held.
    #[track_caller]
    pub fn press_with_shift(&self, key: Key) {
        let (name, number, text) = key.told();
        self.stroke(name, number, text, 8);
    }

    /// Types characters, each with its key.
    #[track_caller]
    pub fn type_in(&self, text: &str) {
        for character in text.chars() {
            let key = character.to_string();
            self.stroke(&key, 0, &key, 0);
        }
    }

    fn stroke(&self, key: &str, number: u32, text: &str, modifiers: u32) {
        for kind in ["keyDown", "keyUp"] {
            let written = if kind == "keyDown" { text } else { "" };
            self.call(
                "Input.dispatchKeyEvent",
                &json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": number, "text": written,
                    "modifiers": modifiers }),
            );
        }
        self.settle();
    }

    /// Makes the window that large.
    #[track_caller]
    pub fn resize(&self, width: u32, height: u32) {
        self.call(
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false }),
        );
        self.settle();
    }

    /// Lets the system prefer light or dark.
    #[track_caller]
    pub fn prefer(&self, scheme: Scheme) {
        let value = match scheme {
            Scheme::Light => "light",
            Scheme::Dark => "dark",
        };
        self.call(
            "Emulation.setEmulatedMedia",
            &json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] }),
        );
        self.settle();
    }

    /// What the window shows, as PNG.
    #[track_caller]
    pub fn screenshot(&self, file: &Path) {
        let taken = self.call("Page.captureScreenshot", &json!({ "format": "png" }));
        let text = taken["data"].as_str().expect("a picture");
        let picture = BASE64_STANDARD.decode(text).expect("it is Base64");
        std::fs::write(file, picture).expect("it can be written");
    }

    /// The address of everything that was asked for since the page was opened, the page itself first.
    #[track_caller]
    pub fn requests(&self) -> Vec<String> {
        self.run("0");
        let connection = self.connection.borrow();
        let sent = connection
            .events
            .iter()
            .filter(|event| event["method"] == "Network.requestWillBeSent");
        sent.map(|event| {
            let url = event["params"]["request"]["url"].as_str();
            url.expect("an address").to_owned()
        })
        .collect()
    }

    /// Errors since the page was opened: exceptions, what its policy forbade, and what it told the console as an error.
    #[track_caller]
    pub fn errors(&self) -> Vec<String> {
        self.run("0");
        let connection = self.connection.borrow();
        let is_error = |event: &&Value| {
            let said = &event["params"];
            match event["method"].as_str() {
                Some("Runtime.exceptionThrown") => true,
                Some("Log.entryAdded") => said["entry"]["level"] == "error",
                Some("Runtime.consoleAPICalled") => said["type"] == "error",
                _ => false,
            }
        };
        let errors = connection.events.iter().filter(is_error);
        errors.map(|event| event["params"].to_string()).collect()
    }

    /// Calls a method of the protocol and waits for its answer.
    #[track_caller]
    pub fn call(&self, method: &str, parameters: &Value) -> Value {
        let mut connection = self.connection.borrow_mut();
        connection.asked += 1;
        let asked = connection.asked;
        let mut message = json!({ "id": asked, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let mut message = message.to_string().into_bytes();
        message.push(0);
        if let Err(error) = connection.commands.write_all(&message) {
            self.give_up(&format!("{method} could not be sent: {error}"));
        }
        let end = Instant::now() + patience();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match connection.messages.recv_timeout(left) {
                Ok(mut message) if message["id"] == asked => {
                    let error = &message["error"];
                    assert!(error.is_null(), "{method} {parameters}: {error}");
                    return message["result"].take();
                }
                Ok(event) => connection.events.push(event),
                Err(error) => self.give_up(&format!("{method} was not answered: {error}")),
            }
        }
    }

    #[track_caller]
    fn give_up(&self, why: &str) -> ! {
        let said = std::fs::read_to_string(self.directory.path().join("said"));
        panic!(
            "{why}; `cargo xtask setup` installs Chromium. It said:\n{}",
            said.unwrap_or_default()
        );
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked to, it ends its helpers too, and lets go of its profile.
        let connection = self.connection.get_mut();
        let _ = connection
            .commands
            .write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_errors_of_a_page_are_heard_of_and_input_reaches_it() {
        let scratch = scratch();
        let file = scratch.path().join("page.html");
        let page = "<!doctype html><meta http-equiv=Content-Security-Policy content=\"img-src 'none'\">
            <img src=forbidden.png><link rel=stylesheet href=missing.css>
            <input onkeydown=\"if (event.key === 'ArrowUp') this.value += '!'\"><button onclick=\"thrown()\">B</button>
            <style>@media (prefers-color-scheme: dark) { button { color: #123456 } }</style>";
        std::fs::write(&file, page).expect("it can be written");
        let browser = Browser::start();
        browser.open(&file);
        let requests = browser.requests();
        for name in ["page.html", "forbidden.png", "missing.css"] {
            let asked = requests.iter().any(|url| url.ends_with(name));
            assert!(asked, "{name} is not among {requests:?}");
        }
        browser.click("input");
        browser.type_in("Aé");
        browser.press(Key::Up);
        assert_eq!(browser.run("document.querySelector('input').value"), "Aé!");
        let color =
            "getComputedStyle(document.querySelector('button')).color === 'rgb(18, 52, 86)'";
        assert_eq!(browser.run(color), false);
        browser.prefer(Scheme::Dark);
        assert_eq!(browser.run(color), true);
        browser.resize(400, 300);
        assert_eq!(browser.run("innerWidth"), 400);
        browser.click("button");
        let errors = browser.errors().join("\n");
        assert!(errors.contains("thrown is not defined"), "{errors}");
        let picture = scratch.path().join("page.png");
        browser.screenshot(&picture);
        let picture = std::fs::read(picture).expect("a picture");
        assert!(picture.starts_with(b"\x89PNG\r\n\x1a\n") && picture.ends_with(b"IEND\xaeB`\x82"));
    }
}
