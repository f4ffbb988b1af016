//! The titles of a window and of its icon, and the saved ones.

/// As many as terminals save.
const MOST: usize = 16;

/// Longer titles are truncated.
const LONGEST: usize = 1024;

/// One title each; `None` if never set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Titles {
    pub(crate) window: Option<Vec<u8>>,
    pub(crate) icon: Option<Vec<u8>>,
    pub(crate) aside: Vec<Aside>,
}

/// A saved title, by the request: both, icon only, window only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Aside {
    pub(crate) which: u16,
    pub(crate) window: Option<Vec<u8>>,
    pub(crate) icon: Option<Vec<u8>>,
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
