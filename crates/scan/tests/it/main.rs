//! Files of a real store, read side by side, with whatever may go wrong.

mod accounts;
mod conditions;
mod files;
mod stored;
mod together;
