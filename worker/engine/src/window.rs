//! Arithmetic of windows: panes, which windows hold a pane, when one is final, when one is gone.

use crate::{
    plan::Window,
    time::{Millis, window_start},
};

/// Length of the panes in which a window is kept: every window is a whole number of them. Zero for windows
/// that have none.
#[must_use]
pub fn pane_ms(window: Window) -> Millis {
    match window {
        Window::None | Window::Session { .. } => 0,
        Window::Tumbling { size_ms } => size_ms,
        Window::Hopping { size_ms, every_ms } => gcd(size_ms, every_ms),
    }
}

/// Size of a window and distance between two starts, for windows made of panes.
#[must_use]
pub fn size_and_step(window: Window) -> (Millis, Millis) {
    match window {
        Window::Tumbling { size_ms } => (size_ms, size_ms),
        Window::Hopping { size_ms, every_ms } => (size_ms, every_ms),
        Window::None | Window::Session { .. } => unreachable!("bug: a window without panes"),
    }
}

/// Start of the last window that holds `time`.
#[must_use]
pub fn last_start(time: Millis, step_ms: Millis) -> Millis {
    window_start(time, step_ms)
}

/// Start of the first window of `size_ms` that holds `time`.
#[must_use]
pub fn first_start(time: Millis, size_ms: Millis, step_ms: Millis) -> Millis {
    // The smallest multiple of the step that is greater than time − size.
    window_start(time - size_ms, step_ms) + step_ms
}

/// Whether any window could still take an event at `time`, judged by `watermark`.
#[must_use]
#[inline]
pub fn window_open(window: Window, lateness_ms: Millis, time: Millis, watermark: Millis) -> bool {
    match window {
        Window::None => true,
        Window::Tumbling { size_ms } => window_start(time, size_ms) + size_ms + lateness_ms > watermark,
        Window::Hopping { size_ms, every_ms } => last_start(time, every_ms) + size_ms + lateness_ms > watermark,
        Window::Session { gap_ms } => time + gap_ms + lateness_ms >= watermark,
    }
}

/// Whether a funnel, with or without windows, could still take an event at `time`, judged by `watermark`.
#[must_use]
#[inline]
pub fn funnel_open(lateness_ms: Millis, time: Millis, watermark: Millis) -> bool {
    time + lateness_ms >= watermark
}

fn gcd(mut left: Millis, mut right: Millis) -> Millis {
    while right != 0 {
        (left, right) = (right, left % right);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_that_hold_a_time() {
        // size 10, every 3: windows that hold 12 start at 3, 6, 9, 12.
        assert_eq!(first_start(12, 10, 3), 3);
        assert_eq!(last_start(12, 3), 12);
        // 13 is no longer held by [3, 13).
        assert_eq!(first_start(13, 10, 3), 6);
        assert_eq!(pane_ms(Window::Hopping { size_ms: 10, every_ms: 4 }), 2);
        // A gap between windows (every > size is refused by the language) never arises.
        assert_eq!(first_start(-1, 10, 10), -10);
    }
}
