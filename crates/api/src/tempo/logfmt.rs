//! `key=value key="quoted value"`, as in the parameter `tags`.

/// The pairs, or what is wrong. A key alone has an empty value.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let key_len = rest.find(|c: char| c == '=' || c == '"' || c.is_whitespace()).unwrap_or(rest.len());
        let (key, after) = rest.split_at(key_len);
        if key.is_empty() {
            return Err(format!("a key is missing before {:?}", rest.chars().take(20).collect::<String>()));
        }
        let (value, after) = match after.strip_prefix('=') {
            None => (String::new(), after),
            Some(after) if after.starts_with('"') => quoted(&after[1..]).ok_or("a quoted value has no end")?,
            Some(after) => {
                let (value, after) = after.split_at(after.find(char::is_whitespace).unwrap_or(after.len()));
                (value.to_owned(), after)
            }
        };
        if !after.is_empty() && !after.starts_with(char::is_whitespace) {
            return Err(format!("after the value of {key:?} a space is missing"));
        }
        pairs.push((key.to_owned(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// A name or value without the quotes around it; `None` if there are none.
pub(super) fn unquoted(text: &str) -> Option<String> {
    let (value, rest) = quoted(text.strip_prefix('"')?)?;
    rest.is_empty().then_some(value)
}

/// The value up to the closing quote, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs() {
        type Pairs<'a> = &'a [(&'a str, &'a str)];
        let table: [(&str, Option<Pairs>); 10] = [
            ("", Some(&[])),
            ("service.name=cart", Some(&[("service.name", "cart")])),
            ("a=1  b=2 ", Some(&[("a", "1"), ("b", "2")])),
            (r#"http.url="/a b" x="say \"hi\"\n""#, Some(&[("http.url", "/a b"), ("x", "say \"hi\"\n")])),
            ("a=b=c", Some(&[("a", "b=c")])),
            ("error", Some(&[("error", "")])),
            (r#"a="""#, Some(&[("a", "")])),
            ("=b", None),
            (r#"a="open"#, None),
            (r#"a="b"c"#, None),
        ];
        for (text, expected) in table {
            let parsed = parse(text).ok();
            let borrowed: Option<Vec<(&str, &str)>> =
                parsed.as_ref().map(|pairs| pairs.iter().map(|(key, value)| (&**key, &**value)).collect());
            assert_eq!(borrowed.as_deref(), expected, "{text:?}");
        }
    }
}
