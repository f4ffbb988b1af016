//! A topic as blocks of text, from which the terminal's text and the manual page are made.
//!
//! A topic may use headings, paragraphs, code blocks, lists and tables of two columns, with emphasis,
//! code and links in them. Only readers of the source see the title row of a table.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// A piece of a topic.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Block {
    Title(Text),
    Heading(Text),
    Paragraph(Text),
    Code(String),
    /// Items, each with its mark.
    List(Vec<(String, Vec<Block>)>),
    /// Rows of a term and its meaning.
    Table(Vec<(Text, Text)>),
}

/// A text that is wrapped to the width.
pub(super) type Text = Vec<Span>;

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Span {
    Plain(String),
    Strong(String),
    Code(String),
    /// A reference to another topic.
    Topic(String),
}

/// The blocks of a Markdown source.
pub(super) fn parse(source: &str) -> Vec<Block> {
    blocks(&mut Parser::new_ext(source, Options::ENABLE_TABLES))
}

/// The blocks up to the end of the enclosing block.
fn blocks(events: &mut Parser<'_>) -> Vec<Block> {
    let mut blocks = Vec::new();
    // An item of a tight list has text without a paragraph around it.
    let mut bare = Text::new();
    while let Some(event) = events.next() {
        let block = match event {
            Event::Start(Tag::Heading { level, .. }) => match level {
                pulldown_cmark::HeadingLevel::H1 => Block::Title(text(events)),
                _ => Block::Heading(text(events)),
            },
            Event::Start(Tag::Paragraph) => Block::Paragraph(text(events)),
            Event::Start(Tag::CodeBlock(_)) => Block::Code(letters(&text(events))),
            Event::Start(Tag::List(first)) => Block::List(items(events, first)),
            Event::Start(Tag::Table(_)) => Block::Table(rows(events)),
            Event::End(_) => break,
            inline => {
                span(inline, events, &mut bare);
                continue;
            }
        };
        close(&mut bare, &mut blocks);
        blocks.push(block);
    }
    close(&mut bare, &mut blocks);
    blocks
}

fn close(bare: &mut Text, blocks: &mut Vec<Block>) {
    if !bare.is_empty() {
        blocks.push(Block::Paragraph(std::mem::take(bare)));
    }
}

fn items(events: &mut Parser<'_>, first: Option<u64>) -> Vec<(String, Vec<Block>)> {
    let mut items = Vec::new();
    let mut number = first;
    while let Some(Event::Start(Tag::Item)) = events.next() {
        let mark = number.map_or_else(|| "-".to_owned(), |number| format!("{number}."));
        number = number.map(|number| number + 1);
        items.push((mark, blocks(events)));
    }
    items
}

fn rows(events: &mut Parser<'_>) -> Vec<(Text, Text)> {
    let mut rows = Vec::new();
    let mut cells = Vec::new();
    for_each_until(events, TagEnd::Table, |event, events| match event {
        Event::Start(Tag::TableHead | Tag::TableRow) => cells.clear(),
        Event::Start(Tag::TableCell) => cells.push(text(events)),
        Event::End(TagEnd::TableRow) => {
            let mut row = cells.drain(..);
            rows.push((row.next().unwrap_or_default(), row.next().unwrap_or_default()));
        }
        _ => {}
    });
    rows
}

fn for_each_until<'a>(
    events: &mut Parser<'a>,
    end: TagEnd,
    mut take: impl FnMut(Event<'a>, &mut Parser<'a>),
) {
    while let Some(event) = events.next().filter(|event| *event != Event::End(end)) {
        take(event, events);
    }
}

/// The text up to the end of the enclosing block.
fn text(events: &mut Parser<'_>) -> Text {
    let mut text = Text::new();
    while let Some(event) = events.next().filter(|event| !matches!(event, Event::End(_))) {
        span(event, events, &mut text);
    }
    text
}

fn span(event: Event<'_>, events: &mut Parser<'_>, text: &mut Text) {
    let span = match event {
        Event::Text(plain) => Span::Plain(plain.into_string()),
        Event::Code(code) => Span::Code(code.into_string()),
        Event::SoftBreak | Event::HardBreak => Span::Plain(" ".to_owned()),
        Event::Start(Tag::Link { dest_url, .. }) => link(&dest_url, &self::text(events)),
        Event::Start(_) => Span::Strong(letters(&self::text(events))),
        _ => return,
    };
    text.push(span);
}

/// A link to a source beside this one refers to a topic. Other links show their words alone.
fn link(target: &str, words: &Text) -> Span {
    match target.strip_suffix(".md").filter(|name| !name.contains('/')) {
        Some(topic) => Span::Topic(topic.to_owned()),
        None => Span::Plain(letters(words)),
    }
}

/// The text without its styles.
pub(super) fn letters(text: &Text) -> String {
    text.iter()
        .map(|span| match span {
            Span::Plain(text) | Span::Strong(text) | Span::Code(text) | Span::Topic(text) => text.as_str(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Span {
        Span::Plain(text.to_owned())
    }

    #[test]
    fn a_topic_is_read_into_its_blocks() {
        let source = "# Title\n\nOne `two`\nand **three**, see [jobs](jobs.md) and [a](../a.md).\n\n## Part\n\n```bash\nd jobs\n\nd x\n```\n\n- a\n- b\n\n  c\n\n| k | v |\n|---|---|\n| `x` | y |\n";
        let [title, paragraph, heading, code, list, table] =
            <[Block; 6]>::try_from(parse(source)).expect("six");
        assert_eq!(title, Block::Title(vec![plain("Title")]));
        let Block::Paragraph(text) = paragraph else { panic!("{paragraph:?}") };
        assert!(
            text.contains(&Span::Code("two".to_owned())) && text.contains(&Span::Strong("three".to_owned()))
        );
        assert!(text.contains(&Span::Topic("jobs".to_owned())) && text.contains(&plain("a")));
        assert_eq!(heading, Block::Heading(vec![plain("Part")]));
        assert_eq!(code, Block::Code("d jobs\n\nd x\n".to_owned()));
        let Block::List(items) = list else { panic!("{list:?}") };
        assert_eq!(items.iter().map(|(_, blocks)| blocks.len()).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(table, Block::Table(vec![(vec![Span::Code("x".to_owned())], vec![plain("y")])]));
    }
}
