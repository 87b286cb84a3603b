//! As much of Markdown as the documents use.

use std::collections::BTreeSet;

/// A fenced block.
pub(crate) struct Block<'a> {
    pub(crate) language: &'a str,
    pub(crate) text: &'a str,
}

/// The fenced blocks of a document.
pub(crate) fn blocks(document: &str) -> Vec<Block<'_>> {
    let parts: Vec<_> = document.split("\n```").collect();
    assert!(parts.len() % 2 == 1, "a fence is not closed");
    let inner = parts.into_iter().skip(1).step_by(2);
    inner.filter_map(|part| part.split_once('\n').map(|(language, text)| Block { language: language.trim(), text })).collect()
}

/// The lines outside fenced blocks.
fn prose(document: &str) -> String {
    document.split("\n```").step_by(2).collect()
}

/// What stands between single back-ticks.
pub(crate) fn code_spans(document: &str) -> Vec<String> {
    let prose = prose(document);
    let spans = prose.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    spans.map(|span| span.trim().to_owned()).filter(|span| !span.is_empty()).collect()
}

/// The targets of links.
pub(crate) fn links(document: &str) -> Vec<String> {
    prose(document).split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

/// What can stand after the `#` of a link to this document.
pub(crate) fn anchors(document: &str) -> BTreeSet<String> {
    let prose = prose(document);
    let headings = prose.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |c: &char| c.is_alphanumeric() || *c == '-' || *c == '_' || *c == ' ';
    headings.map(|heading| heading.to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()).collect()
}

/// Whether a word reads like the name of a test: at least three words, joined.
pub(crate) fn is_test_name(word: &str) -> bool {
    word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') && word.matches('_').count() >= 2
}
