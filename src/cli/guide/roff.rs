//! A topic as a manual page of section 7, `peerbus-TOPIC`.

use clap_mangen::roff::{Inline, Roff, bold, roman};

use super::markdown::{self, Block, Span, Text};
use super::{Source, TOPICS, Topic};

/// Columns before code and before the text of a list's item.
const INDENT: &str = "4";

/// Such as `peerbus-jobs`.
pub(crate) fn page_name(topic: &Topic) -> String {
    format!("peerbus-{}", topic.name)
}

/// The page's source.
pub(crate) fn page(topic: &Topic) -> String {
    let mut page = Roff::new();
    page.control("SH", ["NAME"]);
    page.text([roman(format!("{} - {}", page_name(topic), topic.about()))]);
    page.control("SH", ["DESCRIPTION"]);
    match topic.source {
        Source::Markdown(source) => blocks(&markdown::parse(source), &mut page),
        Source::AsItStands(text) => as_it_stands(text, &mut page),
    }
    page.control("SH", ["SEE ALSO"]);
    let mut others = vec![bold("d"), roman("(1)")];
    for other in TOPICS.iter().filter(|other| other.name != topic.name) {
        others.extend([roman(", "), bold(page_name(other)), roman("(7)")]);
    }
    page.text(others);
    page.render()
}

/// Lines that stay as they are.
pub(crate) fn as_it_stands(text: &str, page: &mut Roff) {
    page.control("nf", []);
    for line in text.lines() {
        page.text([roman(line)]);
    }
    page.control("fi", []);
}

fn blocks(blocks: &[Block], page: &mut Roff) {
    let mut needs_paragraph = false;
    for block in blocks {
        match block {
            // The page has it in its NAME section.
            Block::Title(_) => continue,
            Block::Heading(text) => {
                page.control("SH", [markdown::letters(text).to_uppercase().as_str()]);
                needs_paragraph = false;
                continue;
            }
            Block::Paragraph(text) => {
                if needs_paragraph {
                    page.control("PP", []);
                }
                page.text(inline(text));
            }
            Block::Code(code) => {
                if needs_paragraph {
                    page.control("PP", []);
                }
                page.control("RS", [INDENT]);
                as_it_stands(code, page);
                page.control("RE", []);
            }
            Block::List(items) => {
                for (mark, blocks) in items {
                    item(mark, blocks, page);
                }
            }
            Block::Table(rows) => {
                for (term, meaning) in rows {
                    page.control("TP", []);
                    page.text(self::term(term));
                    page.text(inline(meaning));
                }
            }
        }
        needs_paragraph = true;
    }
}

fn item(mark: &str, blocks: &[Block], page: &mut Roff) {
    let mark = if mark == "-" { r"\(bu" } else { mark };
    page.control("IP", [mark, INDENT]);
    match blocks {
        [Block::Paragraph(text), more @ ..] => {
            page.text(inline(text));
            if !more.is_empty() {
                page.control("RS", [INDENT]);
                self::blocks(more, page);
                page.control("RE", []);
            }
        }
        blocks => self::blocks(blocks, page),
    }
}

/// A term is bold even if its source is plain.
fn term(text: &Text) -> Vec<Inline> {
    match text.as_slice() {
        [Span::Plain(plain)] => vec![bold(plain)],
        _ => inline(text),
    }
}

fn inline(text: &Text) -> Vec<Inline> {
    let mut inline = Vec::new();
    for span in text {
        match span {
            Span::Plain(text) => inline.push(roman(text)),
            Span::Strong(text) | Span::Code(text) => inline.push(bold(text)),
            Span::Topic(name) => inline.extend([bold(format!("peerbus-{name}")), roman("(7)")]),
        }
    }
    inline
}
