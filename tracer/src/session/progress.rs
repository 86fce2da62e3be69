//! The progress line: on a terminal only, redrawn in place.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use tokio::time::Instant;

use super::Session;
use crate::units::size;

/// How often the line is drawn.
const EVERY: Duration = Duration::from_millis(250);

/// The line, or nothing where there is no terminal.
pub(super) struct Progress {
    shown: bool,
    drawn: Option<Instant>,
    events: u64,
}

impl Progress {
    pub(super) fn new(shown: bool) -> Self {
        Self {
            shown,
            drawn: None,
            events: 0,
        }
    }

    /// Draws the line if it is due.
    pub(super) fn draw(&mut self, session: &Session) {
        let now = Instant::now();
        let since = self.drawn.map(|drawn| now - drawn);
        if !self.shown || since.is_some_and(|since| since < EVERY) {
            return;
        }
        let seconds = since.unwrap_or(EVERY).as_secs_f64();
        let rate = (session.events - self.events) as f64 / seconds;
        self.events = session.events;
        self.drawn = Some(now);
        // A terminal that went away is no reason to stop recording.
        let _ = write!(io::stderr(), "\r\x1b[K{}", line(session, rate));
    }

    /// Says once how far it is, wherever that goes.
    pub(super) fn say(&mut self, session: &Session) {
        self.end();
        let seconds = session.started.elapsed().as_secs_f64().max(0.001);
        let rate = session.events as f64 / seconds;
        // As above.
        let _ = writeln!(io::stderr(), "highwater: {}", line(session, rate));
    }

    /// Clears the line: what follows starts at the margin.
    pub(super) fn end(&mut self) {
        if self.shown && self.drawn.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(session: &Session, rate: f64) -> String {
    let rss = session
        .root_rss()
        .map_or_else(|| "?".to_owned(), size::short);
    let lost = session.lost();
    let lost = if lost == 0 {
        String::new()
    } else {
        format!(" · {lost} LOST")
    };
    let elapsed = session.started.elapsed().as_secs();
    format!(
        "{:02}:{:02} · {rate:.0} events/s · live {} · peak {} · RSS {rss}{lost}",
        elapsed / 60,
        elapsed % 60,
        size::short(session.feed.live().live_bytes()),
        size::short(session.feed.live().peak_bytes()),
    )
}
