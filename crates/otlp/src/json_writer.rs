//! JSON written straight into a byte buffer, for answers with very many values.

use serde::Serialize;

/// Writes any value; for texts, numbers and small structures.
pub fn write(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(out, value).expect("writing plain data to memory can't fail");
}

/// Writes `"name":`, with a comma before it unless it is the first of its object. `name` needs no escapes.
pub fn key(out: &mut Vec<u8>, name: &str) {
    if out.last().is_some_and(|last| *last != b'{') {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

pub fn field(out: &mut Vec<u8>, name: &str, value: &(impl Serialize + ?Sized)) {
    key(out, name);
    write(out, value);
}

/// Writes `[a,b,…]`, each item by `write_item`.
pub fn array<T>(out: &mut Vec<u8>, items: impl IntoIterator<Item = T>, mut write_item: impl FnMut(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_item(out, item);
    }
    out.push(b']');
}
