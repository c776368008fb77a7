//! Text from outside, made harmless for one format each.

use crate::diagnostic::is_hidden;
use std::fmt::Write;

/// For a terminal, and the first step everywhere: one line, hidden characters shown as `\u{1b}`.
pub(super) fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' | '\r' => out.push(' '),
            c if is_hidden(c) => out.extend(c.escape_unicode()),
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
    // At the beginning of a paragraph these would make a list, a rule or a block of code.
    let out = out.trim_start();
    let digits = out.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let out = match out.split_at(out.len() - digits) {
        ("", rest) if rest.starts_with(['-', '+', '=']) => format!("\\{rest}"),
        (number, rest) if !number.is_empty() && rest.starts_with(['.', ')']) => format!("{number}\\{rest}"),
        _ => out.to_string(),
    };
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
/// such cells get a `'` in front, as do those that begin with one, so that it can be taken away again.
pub(super) fn cell(text: &str) -> String {
    let formula =
        text.trim_start_matches(' ').starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '\'', '＝', '＋', '－', '＠']);
    if formula { format!("'{text}") } else { text.to_string() }
}

/// For the message of a GitHub annotation.
pub(super) fn annotation(text: &str) -> String {
    // Line breaks are gone already; a `%` would begin an escape.
    line(text).replace('%', "%25")
}

/// For a property of a GitHub annotation: `file=…`.
pub(super) fn annotation_property(text: &str) -> String {
    annotation(text).replace(':', "%3A").replace(',', "%2C")
}

/// For the address of a file in SARIF: a relative one with `/`, everything unusual in percent codes.
pub(super) fn uri(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.replace('\\', "/").bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => out.push(char::from(byte)),
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
    // What begins with a slash names a host or a root, not a file of the project.
    let relative = out.trim_start_matches("./");
    if relative.starts_with('/') { format!("file://{}", relative.replacen("//", "/", 1)) } else { relative.to_string() }
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
        assert_eq!(
            ["- a", "1. a", "12) a", "    a", "--- -"].map(markdown),
            ["\\- a", "1\\. a", "12\\) a", "a", "\\--- -"]
        );
    }

    #[test]
    fn names_are_code_and_cannot_leave_it() {
        assert_eq!(code("layer3.1.conv2@raw/17"), "`layer3.1.conv2@raw/17`");
        assert_eq!(code("a`|<b>"), "<code>a&#96;&#124;&#60;b&#62;</code>");
        assert_eq!(code(""), "<code></code>");
    }

    #[test]
    fn annotations_stay_on_their_line_and_in_their_property() {
        assert_eq!(annotation("50 %\n::error::x"), "50 %25 ::error::x");
        assert_eq!(annotation_property("a,b:c%\r"), "a%2Cb%3Ac%25 ");
    }

    #[test]
    fn addresses_are_relative_and_plain() {
        assert_eq!(uri("./policies/text.toml"), "policies/text.toml");
        assert_eq!(uri("a b\\<c>\n.toml"), "a%20b/%3Cc%3E%0A.toml");
        assert_eq!(uri("/etc/x.toml"), "file:///etc/x.toml");
        assert_eq!(uri("c:é"), "c%3A%C3%A9");
    }

    #[test]
    fn formulas_are_text() {
        assert_eq!(cell("=cmd|'/C calc'!A0"), "'=cmd|'/C calc'!A0");
        assert_eq!(cell(" =1"), "' =1");
        assert_eq!(cell("a=1"), "a=1");
    }
}
