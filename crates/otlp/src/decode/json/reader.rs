//! JSON as RFC 8259 has it, token by token, from bytes of which the strings need not be UTF-8: what is wrong in a text is
//! for the builder to repair, as it is for protobuf.
//!
//! Work is linear in the bytes, and what is passed over takes no stack, however deep it is nested.

use std::borrow::Cow;

/// Why reading ends, and with it the request.
#[derive(Debug)]
pub(super) enum Fatal {
    /// It is no JSON, or its shape is wrong, at this byte.
    Json { at: usize, what: String },
    /// What, the builder says.
    Excess,
}

/// What a value is, if it is not another kind of value than its field has.
pub(super) enum Token<'de> {
    Null,
    Bool(bool),
    /// The content of a string. A surrogate that stands alone has become [`LONE_SURROGATE`].
    Text(Cow<'de, [u8]>),
    Number(&'de [u8]),
    /// An object or array, which was passed over.
    Other(&'static str),
}

/// Stands for half of a surrogate pair in a text. No UTF-8 has this byte, so that it is repaired as other wrong bytes are:
/// to one U+FFFD, with the mark.
const LONE_SURROGATE: u8 = 0xff;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

pub(super) struct Reader<'de> {
    bytes: &'de [u8],
    at: usize,
}

impl<'de> Reader<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        let at = if bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        Self { bytes, at }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Goes back to where a value begins that was read before.
    pub(super) fn go_back(&mut self, position: usize) {
        self.at = position;
    }

    /// The error that ends reading here.
    #[cold]
    fn error<T>(&self, what: &str) -> Result<T, Fatal> {
        Err(Fatal::Json { at: self.at, what: what.to_owned() })
    }

    /// The next byte that is no white space.
    #[inline]
    pub(super) fn peek(&mut self) -> Result<u8, Fatal> {
        while let Some(&byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
                return Ok(byte);
            }
            self.at += 1;
        }
        self.error("it ends too early")
    }

    /// Makes sure that nothing follows.
    pub(super) fn end(&mut self) -> Result<(), Fatal> {
        match self.peek() {
            Ok(_) => self.error("something follows its end"),
            Err(_) => Ok(()),
        }
    }

    #[inline]
    fn expect(&mut self, byte: u8, what: &str) -> Result<(), Fatal> {
        if self.peek()? != byte {
            return self.error(what);
        }
        self.at += 1;
        Ok(())
    }

    /// The name of a member, and the colon after it.
    #[inline]
    fn name(&mut self) -> Result<Cow<'de, [u8]>, Fatal> {
        self.expect(b'"', "a name in quotes is missing")?;
        let name = self.string()?;
        self.expect(b':', "a colon is missing")?;
        Ok(name)
    }

    fn skip_name(&mut self) -> Result<(), Fatal> {
        self.expect(b'"', "a name in quotes is missing")?;
        self.skip_string()?;
        self.expect(b':', "a colon is missing")
    }

    /// Reads an object, which begins here: `member` reads the value for each name.
    #[inline]
    pub(super) fn members(
        &mut self,
        mut member: impl FnMut(&mut Self, &[u8]) -> Result<(), Fatal>,
    ) -> Result<(), Fatal> {
        self.at += 1;
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        let name = self.name()?;
        member(self, &name)?;
        self.further_members(member)
    }

    /// Reads the members that follow, when the value of one was read.
    #[inline]
    pub(super) fn further_members(
        &mut self,
        mut member: impl FnMut(&mut Self, &[u8]) -> Result<(), Fatal>,
    ) -> Result<(), Fatal> {
        while !self.is_last(b'}')? {
            let name = self.name()?;
            member(self, &name)?;
        }
        Ok(())
    }

    /// Reads an array, which begins here: `element` reads one.
    #[inline]
    pub(super) fn elements(&mut self, mut element: impl FnMut(&mut Self) -> Result<(), Fatal>) -> Result<(), Fatal> {
        self.at += 1;
        if self.peek()? == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            element(self)?;
            if self.is_last(b']')? {
                return Ok(());
            }
        }
    }

    /// What follows a member or an element: a comma, or the end of what holds it.
    #[inline]
    fn is_last(&mut self, closing: u8) -> Result<bool, Fatal> {
        let byte = self.peek()?;
        if byte != b',' && byte != closing {
            return self.error("a comma or the end of a list is missing");
        }
        self.at += 1;
        Ok(byte == closing)
    }

    /// Reads any value; of an object or an array only that it is one.
    #[inline]
    pub(super) fn token(&mut self) -> Result<Token<'de>, Fatal> {
        match self.peek()? {
            b'"' => {
                self.at += 1;
                self.string().map(Token::Text)
            }
            b'-' | b'0'..=b'9' => self.number().map(Token::Number),
            b'n' => self.literal("null").map(|()| Token::Null),
            b't' => self.literal("true").map(|()| Token::Bool(true)),
            b'f' => self.literal("false").map(|()| Token::Bool(false)),
            opening => {
                self.skip()?;
                Ok(Token::Other(if opening == b'[' { "an array" } else { "an object" }))
            }
        }
    }

    /// Passes over `null`, if that is what comes.
    #[inline]
    pub(super) fn is_null(&mut self) -> Result<bool, Fatal> {
        if self.peek()? != b'n' {
            return Ok(false);
        }
        self.literal("null").map(|()| true)
    }

    fn literal(&mut self, text: &'static str) -> Result<(), Fatal> {
        if !self.bytes[self.at..].starts_with(text.as_bytes()) {
            return self.error("a value is missing");
        }
        self.at += text.len();
        Ok(())
    }

    /// Passes over any value.
    pub(super) fn skip(&mut self) -> Result<(), Fatal> {
        let mut open = Nesting::default();
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    self.skip_string()?;
                }
                bracket @ (b'{' | b'[') => {
                    self.at += 1;
                    let is_object = bracket == b'{';
                    if self.peek()? == closing(is_object) {
                        self.at += 1;
                    } else {
                        open.push(is_object);
                        if is_object {
                            self.skip_name()?;
                        }
                        continue;
                    }
                }
                b'-' | b'0'..=b'9' => drop(self.number()?),
                b'n' => self.literal("null")?,
                b't' => self.literal("true")?,
                b'f' => self.literal("false")?,
                _ => return self.error("a value is missing"),
            }
            // A value has ended, and perhaps what holds it.
            loop {
                let Some(is_object) = open.innermost() else { return Ok(()) };
                if !self.is_last(closing(is_object))? {
                    if is_object {
                        self.skip_name()?;
                    }
                    break;
                }
                open.pop();
            }
        }
    }

    /// A number by RFC 8259, section 6.
    fn number(&mut self) -> Result<&'de [u8], Fatal> {
        let start = self.at;
        if self.next_is(b"-") {
            self.at += 1;
        }
        // No digit follows a leading zero.
        if self.next_is(b"0") {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.next_is(b".") {
            self.at += 1;
            self.digits()?;
        }
        if self.next_is(b"eE") {
            self.at += 1;
            if self.next_is(b"+-") {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(&self.bytes[start..self.at])
    }

    #[inline]
    fn next_is(&self, any_of: &[u8]) -> bool {
        self.bytes.get(self.at).is_some_and(|byte| any_of.contains(byte))
    }

    #[inline]
    fn digits(&mut self) -> Result<(), Fatal> {
        let digits = self.bytes[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return self.error("a digit is missing");
        }
        self.at += digits;
        Ok(())
    }

    /// The content of a string whose quote was read.
    #[inline]
    fn string(&mut self) -> Result<Cow<'de, [u8]>, Fatal> {
        let start = self.at;
        if self.seek_special()? == b'"' {
            let content = &self.bytes[start..self.at];
            self.at += 1;
            return Ok(Cow::Borrowed(content));
        }
        self.unescaped(start).map(Cow::Owned)
    }

    #[inline(never)]
    fn unescaped(&mut self, start: usize) -> Result<Vec<u8>, Fatal> {
        let mut content = self.bytes[start..self.at].to_vec();
        while self.bytes[self.at] != b'"' {
            self.escape(&mut content)?;
            let start = self.at;
            self.seek_special()?;
            content.extend_from_slice(&self.bytes[start..self.at]);
        }
        self.at += 1;
        Ok(content)
    }

    fn skip_string(&mut self) -> Result<(), Fatal> {
        let mut unused = Vec::new();
        while self.seek_special()? != b'"' {
            unused.clear();
            self.escape(&mut unused)?;
        }
        self.at += 1;
        Ok(())
    }

    /// Goes on to the next quote or backslash of a string, and says which.
    #[inline]
    fn seek_special(&mut self) -> Result<u8, Fatal> {
        // Eight bytes at once: https://graphics.stanford.edu/~seander/bithacks.html#HasLessInWord. A byte may be found
        // wrongly only after one that was found rightly, and the first counts.
        const EACH: u64 = u64::MAX / 0xff;
        let rest = &self.bytes[self.at..];
        let (words, _) = rest.as_chunks::<8>();
        for word in words {
            let word = u64::from_le_bytes(*word);
            let has =
                |byte: u8| (word ^ (EACH * u64::from(byte))).wrapping_sub(EACH) & !(word ^ (EACH * u64::from(byte)));
            let has_control = word.wrapping_sub(EACH * 0x20) & !word;
            let found = (has_control | has(b'"') | has(b'\\')) & (EACH << 7);
            if found != 0 {
                self.at += found.trailing_zeros() as usize / 8;
                return self.special();
            }
            self.at += 8;
        }
        let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | ..0x20);
        let rest = &self.bytes[self.at..];
        self.at += rest.iter().position(is_special).unwrap_or(rest.len());
        self.special()
    }

    #[inline]
    fn special(&self) -> Result<u8, Fatal> {
        match self.bytes.get(self.at) {
            Some(&byte @ (b'"' | b'\\')) => Ok(byte),
            Some(_) => self.error("a control character stands in a string"),
            None => self.error("it ends in a string"),
        }
    }

    /// Reads an escape, whose backslash comes next.
    fn escape(&mut self, content: &mut Vec<u8>) -> Result<(), Fatal> {
        let byte = self.bytes.get(self.at + 1).copied();
        content.push(match byte {
            Some(b'"' | b'\\' | b'/') => byte.unwrap_or_default(),
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => return self.code_unit(content),
            _ => return self.error("an escape is none that JSON has"),
        });
        self.at += 2;
        Ok(())
    }

    /// Reads `\u` with four digits: a character, or one half of it together with the other.
    fn code_unit(&mut self, content: &mut Vec<u8>) -> Result<(), Fatal> {
        const LENGTH: usize = 6;
        const SECOND_HALVES: std::ops::RangeInclusive<u32> = 0xdc00..=0xdfff;
        let Some(unit) = self.code_unit_at(self.at) else { return self.error("\\u has not four digits") };
        self.at += LENGTH;
        let mut code = unit;
        if (0xd800..=0xdbff).contains(&unit)
            && let Some(second) = self.code_unit_at(self.at).filter(|second| SECOND_HALVES.contains(second))
        {
            self.at += LENGTH;
            code = 0x1_0000 + ((unit - 0xd800) << 10) + (second - SECOND_HALVES.start());
        }
        match char::from_u32(code) {
            Some(character) => content.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            None => content.push(LONE_SURROGATE),
        }
        Ok(())
    }

    fn code_unit_at(&self, at: usize) -> Option<u32> {
        let digits = self.bytes.get(at..)?.strip_prefix(b"\\u")?.get(..4)?;
        digits.iter().try_fold(0, |code, digit| Some(code << 4 | char::from(*digit).to_digit(16)?))
    }
}

fn closing(is_object: bool) -> u8 {
    if is_object { b'}' } else { b']' }
}

/// Which objects and arrays are open, one bit for each.
#[derive(Default)]
struct Nesting {
    /// The innermost of them, the last in the lowest bit.
    last: u64,
    before: Vec<u64>,
    depth: usize,
}

impl Nesting {
    const BITS: usize = u64::BITS as usize;

    fn push(&mut self, is_object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(Self::BITS) {
            self.before.push(self.last);
        }
        self.last = self.last << 1 | u64::from(is_object);
        self.depth += 1;
    }

    fn innermost(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.last & 1 == 1)
    }

    fn pop(&mut self) {
        self.last >>= 1;
        self.depth -= 1;
        if self.depth.is_multiple_of(Self::BITS) {
            self.last = self.before.pop().unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_json(bytes: &[u8]) -> bool {
        let mut reader = Reader::new(bytes);
        reader.skip().and_then(|()| reader.end()).is_ok()
    }

    fn text_of(json: &str) -> Vec<u8> {
        match Reader::new(json.as_bytes()).token() {
            Ok(Token::Text(text)) => text.into_owned(),
            _ => panic!("{json} is no string"),
        }
    }

    #[test]
    fn escapes_and_halves_of_pairs() {
        let cases: [(&str, &[u8]); 10] = [
            (r#""""#, b""),
            (r#""\"\\\/\b\f\n\r\t""#, b"\"\\/\x08\x0c\n\r\t"),
            (r#""long enough for eight bytes\u0041, and more of it""#, b"long enough for eight bytesA, and more of it"),
            (r#""\u00e9\u20AC""#, "é€".as_bytes()),
            (r#""\ud83c\udf55""#, "🍕".as_bytes()),
            (r#""\ud83c""#, b"\xff"),
            (r#""\udf55\ud83c!""#, b"\xff\xff!"),
            (r#""\ud83c\ud83c\udf55""#, b"\xff\xf0\x9f\x8d\x95"),
            (r#""\ud83c\n""#, b"\xff\n"),
            (r#""\ud83c\u0041""#, b"\xffA"),
        ];
        for (json, expected) in cases {
            assert_eq!(text_of(json), expected, "{json}");
            assert!(is_json(json.as_bytes()), "{json}");
        }
    }

    #[test]
    fn what_is_json_and_what_is_not() {
        let deep = |depth: usize| [r#"[{"a":"#.repeat(depth), "0".into(), "}]".repeat(depth)].concat().into_bytes();
        let open = |depth: usize| "[".repeat(depth).into_bytes();
        let mismatched = [r#"[{"a":"#.repeat(100), "0".into(), "]}".repeat(100)].concat().into_bytes();
        for text in [" null ", "[]", "{}", "-0.5e+7", "[1,{\"a\":[true,false]},\"\\ud83c\"]", "\u{feff}{}"] {
            assert!(is_json(text.as_bytes()), "{text}");
        }
        assert!(is_json(b"\"\xff\xfe\"") && is_json(&deep(64)) && is_json(&deep(100_000)));
        let wrong = [
            "",
            " ",
            "nul",
            "nullx",
            "01",
            "1.",
            ".5",
            "1e",
            "-",
            "+1",
            "[1,]",
            "[1 2]",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "[}",
            "{]",
            "\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud83c\\u1\"",
            "\"a\nb\"",
            "{} {}",
            "NaN",
            "\u{feff}\u{feff}{}",
        ];
        for text in wrong {
            assert!(!is_json(text.as_bytes()), "{text}");
        }
        assert!(!is_json(&open(100_000)) && !is_json(&mismatched));
    }
}
