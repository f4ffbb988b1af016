//! A topic for a terminal or a file: text wrapped to the width, and code unchanged.

use textwrap::{WordSeparator, WordSplitter, WrapAlgorithm};
use unicode_width::UnicodeWidthStr;

use super::markdown::{Block, Span, Text};

/// How headings look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Headings {
    Bold,
    Plain,
}

/// Stands before everything but a heading.
const INDENT: &str = "  ";
/// Further columns before code.
const CODE_INDENT: usize = 4;
/// The meaning of a wider term begins on the line below it.
const WIDEST_TERM: usize = 24;
/// Stands for a blank in code while text is wrapped, so that code stays on one line.
const JOINED: &str = "\u{a0}";

/// The topic in lines of at most `columns`, except for longer code.
pub(super) fn render(blocks: &[Block], columns: usize, headings: Headings) -> String {
    let page = Page { columns, headings };
    let mut lines = page.blocks(blocks, INDENT).replace(JOINED, " ");
    lines.push('\n');
    lines
}

struct Page {
    columns: usize,
    headings: Headings,
}

impl Page {
    fn blocks(&self, blocks: &[Block], indent: &str) -> String {
        blocks.iter().map(|block| self.block(block, indent)).collect::<Vec<_>>().join("\n\n")
    }

    fn block(&self, block: &Block, indent: &str) -> String {
        match block {
            Block::Title(text) | Block::Heading(text) => self.bold(&self.inline(text)),
            Block::Paragraph(text) => self.filled(text, indent, indent),
            Block::Code(code) => {
                let indent = format!("{indent}{:CODE_INDENT$}", "");
                textwrap::indent(code, &indent).trim_end().to_owned()
            }
            Block::List(items) => {
                let items = items.iter().map(|(mark, blocks)| self.item(mark, blocks, indent));
                items.collect::<Vec<_>>().join("\n")
            }
            Block::Table(rows) => self.table(rows, indent),
        }
    }

    fn item(&self, mark: &str, blocks: &[Block], indent: &str) -> String {
        let deeper = format!("{indent}{:1$} ", "", mark.len());
        let item = self.blocks(blocks, &deeper);
        match item.strip_prefix(deeper.as_str()) {
            Some(item) => format!("{indent}{mark} {item}"),
            None => item,
        }
    }

    /// Each row is a term and, beside it, what it means.
    fn table(&self, rows: &[(Text, Text)], indent: &str) -> String {
        let terms: Vec<String> = rows.iter().map(|(term, _)| self.term(term)).collect();
        let narrow = terms.iter().map(|term| term.width()).filter(|width| *width <= WIDEST_TERM);
        let widest = narrow.max().unwrap_or(CODE_INDENT);
        let beside = format!("{indent}{:widest$}  ", "");
        let rows = rows.iter().zip(&terms).map(|((_, meaning), term)| {
            if term.width() <= widest {
                let first = format!("{indent}{term}{:1$}  ", "", widest - term.width());
                self.filled(meaning, &first, &beside)
            } else {
                format!("{indent}{term}\n{}", self.filled(meaning, &beside, &beside))
            }
        });
        rows.collect::<Vec<_>>().join("\n")
    }

    /// A term needs no marks to be known as code.
    fn term(&self, term: &Text) -> String {
        let parts = term.iter().map(|span| match span {
            Span::Code(code) => code.clone(),
            span => self.span(span),
        });
        parts.collect()
    }

    fn filled(&self, text: &Text, first: &str, further: &str) -> String {
        let options = textwrap::Options::new(self.columns)
            .initial_indent(first)
            .subsequent_indent(further)
            .word_separator(WordSeparator::AsciiSpace)
            .word_splitter(WordSplitter::NoHyphenation)
            .wrap_algorithm(WrapAlgorithm::FirstFit)
            .break_words(false);
        textwrap::fill(&self.inline(text), options)
    }

    fn inline(&self, text: &Text) -> String {
        text.iter().map(|span| self.span(span)).collect()
    }

    fn span(&self, span: &Span) -> String {
        match span {
            Span::Plain(text) => text.clone(),
            Span::Strong(text) => self.bold(text),
            Span::Code(code) => format!("`{}`", code.replace(' ', JOINED)),
            Span::Topic(name) => format!("`d{JOINED}help{JOINED}{name}`"),
        }
    }

    fn bold(&self, text: &str) -> String {
        match self.headings {
            // SGR 22 ends bold alone; SGR 0 would also reset a colour that somebody else has set.
            Headings::Bold => format!("\x1b[1m{text}\x1b[22m"),
            Headings::Plain => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guide::markdown::parse;

    #[test]
    fn text_is_filled_and_code_is_not() {
        let source = "# Title\n\nSome words that are `kept together` on a line.\n\n```\na long line of code that is wider\n```\n\n- one two three four\n\n| k | v |\n|---|---|\n| `--id` | what it is called |\n";
        let wanted = "Title\n\n  Some words that are\n  `kept together` on a\n  line.\n\n      a long line of code that is wider\n\n  - one two three four\n\n  --id  what it is\n        called\n";
        assert_eq!(render(&parse(source), 22, Headings::Plain), wanted);
        assert!(render(&parse(source), 22, Headings::Bold).starts_with("\x1b[1mTitle\x1b[22m\n"));
    }
}
