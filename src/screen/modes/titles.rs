//! The titles of a window and of its icon, and those that were put aside.

/// As many as terminals put aside.
const MOST: usize = 16;

/// Longer titles are cut.
const LONGEST: usize = 1024;

/// One title each; none was ever set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct Titles {
    pub(in super::super) window: Option<Vec<u8>>,
    pub(in super::super) icon: Option<Vec<u8>>,
    pub(in super::super) aside: Vec<Aside>,
}

/// What was put aside, in the words it was asked for in: both, the icon's alone, the window's alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Aside {
    pub(in super::super) which: u16,
    pub(in super::super) window: Option<Vec<u8>>,
    pub(in super::super) icon: Option<Vec<u8>>,
}

impl Titles {
    pub(super) fn set(&mut self, which: &[u8], title: &[u8]) {
        let title = Some(title.get(..LONGEST).unwrap_or(title).to_vec());
        match which {
            b"0" => (self.icon, self.window) = (title.clone(), title),
            b"1" => self.icon = title,
            _ => self.window = title,
        }
    }

    pub(super) fn put_aside(&mut self, which: u16) {
        if self.aside.len() == MOST {
            self.aside.remove(0);
        }
        self.aside.push(Aside { which, window: self.window.clone(), icon: self.icon.clone() });
    }

    pub(super) fn take_back(&mut self) {
        if let Some(Aside { window, icon, .. }) = self.aside.pop() {
            (self.window, self.icon) = (window, icon);
        }
    }
}
