//! `tracehouse serve`: starts the roles, waits for a signal, stops them.

use crate::cli::ServeOptions;

pub(crate) fn serve(_options: &ServeOptions) -> anyhow::Result<()> {
    anyhow::bail!("not wired yet")
}
