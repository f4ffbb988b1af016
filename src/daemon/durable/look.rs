//! When a viewer looks into the log.

/// Whether to look into the log: not again after it had nothing, until there are news. Those that came while it was
/// looked at count.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) dry: bool,
    news: bool,
}

impl Look {
    pub(super) fn begins(&mut self) {
        self.news = false;
    }

    pub(super) fn on_news(&mut self) {
        (self.dry, self.news) = (false, true);
    }

    pub(super) fn found_nothing(&mut self) {
        self.dry = !self.news;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_that_come_during_a_look_have_it_look_again() {
        let mut look = Look::default();
        look.begins();
        look.found_nothing();
        assert!(look.dry);
        look.on_news();
        assert!(!look.dry);
        look.begins();
        look.on_news();
        look.found_nothing();
        assert!(!look.dry, "the end may be among them, and nothing would be said of it ever again");
        look.begins();
        look.found_nothing();
        assert!(look.dry);
    }
}
