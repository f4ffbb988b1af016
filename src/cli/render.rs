//! What is shown of a text that may hold a secret.

/// A text in which whatever stands for a user in a URL is starred out: it is, or comes with, a secret.
pub(super) fn without_secrets(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        let end = after.find(['/', ',', '?', '"', '\'', ' ']).unwrap_or(after.len());
        shown.push_str(before);
        match after[..end].rfind('@') {
            Some(host) => {
                shown.push_str("***");
                rest = &after[host..];
            }
            None => rest = after,
        }
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_of_a_url_is_shown() {
        for (text, shown) in [
            ("nats://a:1,nats://b:2", "nats://a:1,nats://b:2"),
            ("nats://token@a:1,nats://u:p@b:2", "nats://***@a:1,nats://***@b:2"),
            ("mysql://root:p@ss@db/peers?x=1", "mysql://***@db/peers?x=1"),
            ("k = \"nats://t@a\" # mail@example", "k = \"nats://***@a\" # mail@example"),
            ("me@here", "me@here"),
        ] {
            assert_eq!(without_secrets(text), shown);
        }
    }
}
