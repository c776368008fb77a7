//! Names of sites, with or without wildcards.

use globset::{GlobBuilder, GlobMatcher};

/// The longest glob, in bytes.
const LONGEST: usize = 1_000;
/// How deeply its braces may nest.
const DEEPEST: usize = 10;

/// The name of a site, or a glob over names.
#[derive(Debug, Clone)]
pub(crate) struct Matcher {
    text: String,
    glob: GlobMatcher,
}

impl Matcher {
    /// Whether it means the site called `name`. A name means itself, whatever is in it: `classifier[4]`.
    pub fn is_match(&self, name: &str) -> bool {
        self.text == name || self.glob.is_match(name)
    }
}

/// Compiles a name or glob: `*` stands for any characters, `?` for one, `[abc]` for one of several, `{a,b}` for one of several
/// texts, and a backslash takes the meaning from the character after it.
///
/// # Errors
/// Why it is none, in a few words.
pub(crate) fn compile(text: &str) -> Result<Matcher, String> {
    // globset panics on what its regular expressions cannot hold.
    if text.len() > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    let mut depth = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return Err(format!("its braces nest more than {DEEPEST} deep"));
        }
    }
    let glob = GlobBuilder::new(text).backslash_escape(true).build().map_err(|e| e.kind().to_string())?;
    Ok(Matcher { text: text.to_string(), glob: glob.compile_matcher() })
}

#[cfg(test)]
mod tests {
    use super::compile;

    #[test]
    fn a_name_means_itself_first() {
        for name in ["classifier[4]", "a{b,c}", "what?", "star*", "back\\slash", "[!x]"] {
            assert!(compile(name).is_ok_and(|g| g.is_match(name)), "{name}");
        }
        assert!(compile("classifier[4]").is_ok_and(|g| g.is_match("classifier4") && !g.is_match("classifier[5]")));
    }

    #[test]
    fn what_cannot_be_compiled_is_refused() {
        assert!(compile("layer{3,4}.*.conv?").is_ok_and(|g| g.is_match("layer3.1.conv2")));
        assert!(compile(&"a".repeat(1_000_000)).is_err_and(|why| why.contains("1000 bytes")));
        assert!(compile(&format!("{}a{}", "{".repeat(260), "}".repeat(260))).is_err_and(|why| why.contains("nest")));
        assert!(compile("layer[3").is_err());
        // The largest that are allowed.
        assert!(compile(&"*?".repeat(500)).is_ok() && compile(&"[!a]".repeat(250)).is_ok());
        assert!(compile(&format!("{}a{}", "{".repeat(10), "}".repeat(10))).is_ok());
        assert!(compile(&format!("{{{}}}", "**,".repeat(330))).is_ok());
    }
}
