//! Resets what a program has changed in a terminal, for the user's shell.

use std::fmt::Write;

use super::modes::{Keyboard, Modes};

/// Attributes, hyperlinks and character sets.
const PLAIN: &str = "\x1b]8;;\x1b\\\x1b[m\x1b(B\x1b)B\x0f";

/// Writes the reset. `within` means inside an incomplete sequence, which is cancelled first.
pub(super) fn leave(modes: &Modes, within: bool) -> Vec<u8> {
    let mut out = String::new();
    if within {
        out.push('\x18');
    }
    if modes.synchronized {
        out.push_str("\x1b[?2026l");
    }
    out.push_str(PLAIN);
    switches(&mut out, modes);
    let [primary, alternate] = &modes.keyboards;
    if modes.alternate {
        keyboard(&mut out, alternate);
        margins(&mut out, modes);
        out.push_str("\x1b[?1049l");
    } else {
        // Resetting them moves the cursor.
        out.push_str("\x1b7");
        margins(&mut out, modes);
        out.push_str("\x1b8");
    }
    out.push_str(PLAIN);
    keyboard(&mut out, primary);
    appearance(&mut out, modes);
    out.into_bytes()
}

fn say(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = out.write_fmt(text);
}

fn switches(out: &mut String, modes: &Modes) {
    for mode in modes.mouse.into_iter().chain(modes.mouse_encoding) {
        say(out, format_args!("\x1b[?{mode}l"));
    }
    for (mode, on) in modes.unusual_private() {
        say(out, format_args!("\x1b[?{mode}{}", if on { 'h' } else { 'l' }));
    }
    for (mode, _) in modes.ansi.iter().filter(|(_, on)| **on) {
        say(out, format_args!("\x1b[{mode}l"));
    }
    if modes.keypad {
        out.push_str("\x1b>");
    }
    if modes.other_keys.is_some() {
        out.push_str("\x1b[>4m");
    }
}

fn margins(out: &mut String, modes: &Modes) {
    if modes.region != (1, modes.size().rows) {
        out.push_str("\x1b[r");
    }
    if !modes.tabs_are_usual() {
        out.push_str("\x1b[3g");
        for column in (0..modes.size().cols).step_by(8) {
            say(out, format_args!("\x1b[1;{}H\x1bH", column + 1));
        }
    }
}

fn keyboard(out: &mut String, keyboard: &Keyboard) {
    if !keyboard.pushed.is_empty() {
        say(out, format_args!("\x1b[<{}u", keyboard.pushed.len()));
    }
    if keyboard.base != 0 {
        out.push_str("\x1b[=0u");
    }
}

fn appearance(out: &mut String, modes: &Modes) {
    for (command, index) in modes.colors.keys() {
        match command {
            4 => say(out, format_args!("\x1b]104;{index}\x1b\\")),
            _ => say(out, format_args!("\x1b]{}\x1b\\", command + 100)),
        }
    }
    if modes.pointer.is_some() {
        out.push_str("\x1b]22;\x1b\\");
    }
    if modes.cursor_style.is_some() {
        out.push_str("\x1b[0 q");
    }
    for _ in &modes.titles.aside {
        out.push_str("\x1b[23;0t");
    }
}
