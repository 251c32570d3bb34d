//! Owning the terminal for a while, and giving it back whatever ends that: Ctrl-C, Ctrl-Z, a signal, an error.
//!
//! Frames are some dozen lines, four a second, so an own redraw is enough, without a full-screen library. What
//! is drawn is not this file's business.

use std::io::{self, Write};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end a watch.
pub(super) struct Ends {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

/// The terminal while it is ours; dropping gives it back.
pub(super) struct Terminal {
    shown: String,
    before: Option<rustix::termios::Termios>,
}

/// Ctrl-Z: the screen is given back while we are stopped.
pub(super) fn stop() -> io::Result<Signal> {
    signal(SignalKind::from_raw(rustix::process::Signal::TSTP.as_raw()))
}

/// The terminal has another size.
pub(super) fn resized() -> io::Result<Signal> {
    signal(SignalKind::window_change())
}

/// What Ctrl-Z would have done by itself.
pub(super) fn sleep_until_continued() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP);
}

// === impl Ends ===

impl Ends {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Ends {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Until one of them comes.
    pub(super) async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

// === impl Terminal ===

impl Terminal {
    /// Alternate screen, no cursor, no echo of keys.
    pub(super) fn take() -> io::Result<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let before = tcgetattr(io::stdin()).ok();
        if let Some(mut quiet) = before.clone() {
            quiet.local_modes -= LocalModes::ECHO | LocalModes::ICANON;
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &quiet);
        }
        let terminal = Terminal { shown: String::new(), before };
        let mut out = io::stdout();
        out.write_all(b"\x1b[?1049h\x1b[?25l\x1b[2J")?;
        out.flush()?;
        Ok(terminal)
    }

    /// Draws a frame if it differs, as one synchronized update.
    pub(super) fn draw(&mut self, frame: &str) -> io::Result<()> {
        if frame == self.shown {
            return Ok(());
        }
        let mut text = String::from("\x1b[?2026h\x1b[H");
        text += &frame.lines().collect::<Vec<_>>().join("\x1b[K\r\n");
        text += "\x1b[K\x1b[J\x1b[?2026l";
        let mut out = io::stdout();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        frame.clone_into(&mut self.shown);
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let mut out = io::stdout();
        let _ = out.write_all(b"\x1b[?25h\x1b[?1049l").and_then(|()| out.flush());
        if let Some(before) = &self.before {
            // Keys pressed meanwhile must not become the shell's next command.
            let _ = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Flush, before);
        }
    }
}
