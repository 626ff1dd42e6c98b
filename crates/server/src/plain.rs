//! Texts that others wrote, on a terminal: names of files and of spans may hold what moves its cursor or turns its lines around.

/// The text on one line, with a space in the place of each character that a terminal obeys instead of showing it.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|char| if is_obeyed(char) { ' ' } else { char }).collect()
}

/// Control characters, and those of Unicode that turn the direction of what follows.
fn is_obeyed(char: char) -> bool {
    char.is_control() || matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_that_a_terminal_obeys() {
        assert_eq!(one_line("a\nb\u{1b}[31m\tc\u{9b}d"), "a b [31m c d");
        assert_eq!(one_line("cod\u{202e}xcod\u{2066}."), "cod xcod .");
        assert_eq!(one_line("größer שלום …"), "größer שלום …");
    }
}
