//! Text from outside, made harmless for one format each.

use std::fmt::Write;

/// Whether a character changes how text is shown without being seen: control characters (terminal codes begin with
/// one), marks that reverse the direction of text, and characters without width.
fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// For a terminal, and the first step everywhere: one line, hidden characters shown as `\u{1b}`.
pub(super) fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' | '\r' => out.push(' '),
            c if hidden(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// For running text of Markdown, table cells included: shown as it is, never as markup, HTML or a link.
pub(super) fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in line(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '|' => out.push_str("&#124;"),
            '@' => out.push_str("&#64;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '!' | '~' | '$' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    // Addresses become links by themselves.
    out.replace("://", "&#58;//").replace("www.", "www&#46;").replace("WWW.", "WWW&#46;")
}

/// For names in Markdown, table cells included: set as code.
pub(super) fn code(text: &str) -> String {
    let text = line(text);
    let plain = |c: char| c.is_alphanumeric() || " .,:;/@_-+#()=*?%'".contains(c);
    if !text.trim().is_empty() && text.trim() == text && text.chars().all(plain) {
        return format!("`{text}`");
    }
    let mut out = String::from("<code>");
    for c in text.chars() {
        if c.is_alphanumeric() || " .,/-".contains(c) {
            out.push(c);
        } else {
            let _ = write!(out, "&#{};", u32::from(c));
        }
    }
    out + "</code>"
}

/// For a cell of CSV: spreadsheets take cells that begin with `=`, `+`, `-`, `@`, a tab or a line break for formulas;
/// such cells get a `'` in front.
pub(super) fn cell(text: &str) -> String {
    let formula =
        text.trim_start_matches(' ').starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
    if formula { format!("'{text}") } else { text.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_codes_are_shown_not_obeyed() {
        assert_eq!(line("a\u{1b}[31mred\u{7}\nb"), "a\\u{1b}[31mred\\u{7} b");
        assert_eq!(line("\u{202e}txet \u{9b}2J"), "\\u{202e}txet \\u{9b}2J");
        assert_eq!(line("Straße 猫 é"), "Straße 猫 é");
    }

    #[test]
    fn markup_is_shown_not_obeyed() {
        assert_eq!(markdown("<script>|*x*"), "&lt;script&gt;&#124;\\*x\\*");
        assert_eq!(markdown("[a](http://b)"), "\\[a\\](http&#58;//b)");
        assert_eq!(markdown("yellow discs, 3.5"), "yellow discs, 3.5");
    }

    #[test]
    fn names_are_code_and_cannot_leave_it() {
        assert_eq!(code("layer3.1.conv2@raw/17"), "`layer3.1.conv2@raw/17`");
        assert_eq!(code("a`|<b>"), "<code>a&#96;&#124;&#60;b&#62;</code>");
        assert_eq!(code(""), "<code></code>");
    }

    #[test]
    fn formulas_are_text() {
        assert_eq!(cell("=cmd|'/C calc'!A0"), "'=cmd|'/C calc'!A0");
        assert_eq!(cell(" =1"), "' =1");
        assert_eq!(cell("a=1"), "a=1");
    }
}
