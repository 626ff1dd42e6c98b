//! Tables of columns side by side, without lines.

use std::io::{self, Write};

use comfy_table::{Table, presets};

use super::text::{BOLD, Style};

/// An empty table under a heading. Its widths are those of a terminal, where a Chinese character takes two columns.
pub(super) fn under(heading: impl IntoIterator<Item = String>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(heading);
    table
}

pub(super) fn print(out: &mut dyn Write, table: &Table, style: &Style) -> io::Result<()> {
    for (at, line) in table.lines().enumerate() {
        let line = line.trim_end();
        if at == 0 {
            writeln!(out, "{}", style.paint(BOLD, line))?;
        } else {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}
