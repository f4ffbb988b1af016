//! The effect of each control sequence on the modes.

use alacritty_terminal::vte::{Params, Perform};

use super::{MOST_KEYBOARDS, Modes};

/// The cursor blinks.
const BLINKS: u16 = 12;

/// Longer color specifications are invalid.
const LONGEST_COLOR: usize = 64;

impl Perform for Modes {
    fn print(&mut self, c: char) {
        self.last = Some(c);
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            0x0e => self.shifted = true,
            0x0f => self.shifted = false,
            _ => {}
        }
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], _ignore: bool, byte: u8) {
        match (intermediates, byte) {
            ([], b'=') => self.keypad = true,
            ([], b'>') => self.keypad = false,
            ([], b'c') => self.reset(),
            ([], b'H') => self.set_tab(true),
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: char) {
        if ignore {
            return;
        }
        let number = |at: usize, or: u16| match params.iter().nth(at) {
            Some(&[value, ..]) if value != 0 => value,
            _ => or,
        };
        let each = || params.iter().filter_map(|param| param.first().copied());
        match (intermediates, action) {
            ([b'?'], 'h') => each().for_each(|mode| self.set_private(mode, true)),
            ([b'?'], 'l') => each().for_each(|mode| self.set_private(mode, false)),
            ([b'?'], 's') => each().for_each(|mode| self.save_private(mode)),
            ([b'?'], 'r') => each().for_each(|mode| self.restore_private(mode)),
            ([], 'h') => each().for_each(|mode| self.set_ansi(mode, true)),
            ([], 'l') => each().for_each(|mode| self.set_ansi(mode, false)),
            ([], 'r') => self.set_region(number(0, 1), number(1, self.size.rows)),
            ([], 'm') => self.set_blink(params),
            ([], 'g') => self.clear_tabs(number(0, 0)),
            ([], 't') => match number(0, 1) {
                22 => self.titles.put_aside(number(1, 0).min(2)),
                23 => self.titles.take_back(),
                _ => {}
            },
            ([b' '], 'q') => self.set_cursor_style(number(0, 0)),
            ([b'!'], 'p') => self.reset_softly(),
            ([b'>'], 'm') => self.set_other_keys(number(0, 0), number(1, 0)),
            ([b'>'], 'n') if number(0, 0) == 4 => self.other_keys = None,
            ([b'>'], 'u') => self.push_keyboard(number(0, 0)),
            ([b'<'], 'u') => self.pop_keyboards(number(0, 1)),
            ([b'='], 'u') => self.change_keyboard(number(0, 0), number(1, 1)),
            _ => {}
        }
    }

    fn osc_dispatch(&mut self, params: &[&[u8]], _bell: bool) {
        let Some((&command, rest)) = params.split_first() else { return };
        match command {
            b"0" | b"1" | b"2" if !rest.is_empty() => self.titles.set(command, &rest.join(&b';')),
            b"4" => rest.chunks_exact(2).for_each(|pair| {
                if let &[index, color] = pair {
                    self.set_color(4, index, color);
                }
            }),
            b"104" if rest.iter().all(|index| index.is_empty()) => self.colors.retain(|key, _| key.0 != 4),
            b"104" => rest.iter().filter_map(|index| parsed(index)).for_each(|index| {
                self.colors.remove(&(4, index));
            }),
            b"22" => self.pointer = Some(rest.join(&b';')).filter(|name| !name.is_empty() && name.len() < 64),
            command => self.dynamic_color(command, rest),
        }
    }
}

impl Modes {
    /// Records the last blink attribute of an SGR sequence, if any. Skips the numbers of color
    /// specifications.
    fn set_blink(&mut self, params: &Params) {
        let mut params = params.iter();
        while let Some(param) = params.next() {
            match param {
                [0 | 25, ..] => self.blink = Some(false),
                [5 | 6, ..] => self.blink = Some(true),
                [38 | 48 | 58] => {
                    let skipped = match params.next() {
                        Some([5, ..]) => 1,
                        Some([2, ..]) => 3,
                        _ => 0,
                    };
                    params.by_ref().take(skipped).for_each(drop);
                }
                _ => {}
            }
        }
    }

    fn set_ansi(&mut self, mode: u16, on: bool) {
        // Only these exist on common terminals.
        if matches!(mode, 2 | 4 | 12 | 20) {
            self.ansi.insert(mode, on);
        }
    }

    /// Sets the cursor style, including blinking, which replaces the earlier setting.
    fn set_cursor_style(&mut self, style: u16) {
        if style <= 6 {
            self.cursor_style = Some(style).filter(|style| *style != 0);
            self.private.remove(&BLINKS);
        }
    }

    fn set_tab(&mut self, on: bool) {
        if let Some(tab) = self.tabs.get_mut(usize::from(self.column)) {
            *tab = on;
        }
    }

    fn clear_tabs(&mut self, which: u16) {
        match which {
            0 => self.set_tab(false),
            3 => self.tabs.fill(false),
            _ => {}
        }
    }

    fn set_other_keys(&mut self, resource: u16, value: u16) {
        match resource {
            4 => self.other_keys = Some(value).filter(|value| *value != 0),
            0 => self.other_keys = None,
            _ => {}
        }
    }

    fn push_keyboard(&mut self, flags: u16) {
        let pushed = &mut self.keyboard().pushed;
        if pushed.len() == MOST_KEYBOARDS {
            pushed.remove(0);
        }
        pushed.push(flags);
    }

    fn pop_keyboards(&mut self, count: u16) {
        let keyboard = self.keyboard();
        let left = keyboard.pushed.len().saturating_sub(usize::from(count));
        // As the protocol requires.
        if left == 0 {
            keyboard.base = 0;
        }
        keyboard.pushed.truncate(left);
    }

    fn change_keyboard(&mut self, flags: u16, how: u16) {
        let keyboard = self.keyboard();
        let now = keyboard.pushed.last_mut().unwrap_or(&mut keyboard.base);
        *now = match how {
            2 => *now | flags,
            3 => *now & !flags,
            _ => flags,
        };
    }

    fn set_color(&mut self, command: u16, index: &[u8], color: &[u8]) {
        let Some(index) = parsed(index).filter(|index| *index < 512) else { return };
        if !color.is_empty() && color != b"?" && color.len() <= LONGEST_COLOR {
            self.colors.insert((command, index), color.to_vec());
        }
    }

    /// Foreground, background, cursor and so on: the commands 10 to 19. One command may set several.
    fn dynamic_color(&mut self, command: &[u8], colors: &[&[u8]]) {
        match parsed(command) {
            Some(first @ 10..=19) => {
                for (which, color) in (first..=19).zip(colors) {
                    self.set_color(which, b"0", color);
                }
            }
            Some(reset @ 110..=119) => _ = self.colors.remove(&(reset - 100, 0)),
            _ => {}
        }
    }
}

fn parsed(number: &[u8]) -> Option<u16> {
    std::str::from_utf8(number).ok()?.parse().ok()
}
