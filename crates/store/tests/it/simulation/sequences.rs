//! What goes wrong only if things happen in a certain order, which a run meets too seldom: each case is that order, and a seed decides
//! the rest. Only what the store promises its users is looked at.

mod away;
mod forgotten;
mod removal;
mod scene;
mod writing;
