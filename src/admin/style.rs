//! Colours for a terminal; none if a program reads the output.

/// Whether to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    colours: bool,
}

/// What a colour means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Worth a look.
    Doubtful,
    /// Needs to be fixed.
    Bad,
}

impl Style {
    /// Colours on a terminal that can show them, unless `NO_COLOR` is set and not empty (no-color.org).
    pub fn of(is_terminal: bool, variable: impl Fn(&str) -> Option<String>) -> Self {
        let forbidden = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = variable("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        Style {
            colours: is_terminal && !forbidden && !is_dumb,
        }
    }

    /// Colours, whatever reads them.
    pub fn coloured() -> Self {
        Style { colours: true }
    }

    /// Plain text.
    pub fn plain() -> Self {
        Style { colours: false }
    }

    /// A text in its colour.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        if !self.colours {
            return text.to_owned();
        }
        let colour = match tone {
            Tone::Good => 32,
            Tone::Doubtful => 33,
            Tone::Bad => 31,
        };
        format!("\u{1b}[{colour}m{text}\u{1b}[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_terminal_that_may_gets_colours() {
        let with = |is_terminal, pairs: &'static [(&str, &str)]| {
            let style = Style::of(is_terminal, |name| {
                let found = pairs.iter().find(|(one, _)| *one == name);
                found.map(|(_, value)| (*value).to_owned())
            });
            style.paint(Tone::Bad, "x") != "x"
        };
        assert!(with(true, &[("TERM", "xterm")]));
        assert!(with(true, &[("TERM", "xterm"), ("NO_COLOR", "")]));
        assert!(!with(false, &[("TERM", "xterm")]));
        assert!(!with(true, &[("TERM", "xterm"), ("NO_COLOR", "1")]));
        assert!(!with(true, &[("TERM", "dumb")]));
        assert!(!with(true, &[]));
    }
}
