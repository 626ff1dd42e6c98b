//! Tables whose keys come from outside.
//!
//! Span ids, names and attribute values are chosen by senders. With a hash that anybody can work out, sixty thousand
//! chosen ids share one slot and every look-up walks through all of them. These tables hash with a seed that each process
//! draws for itself.

/// A map whose keys may come from outside.
pub type SeededMap<K, V> = hashbrown::HashMap<K, V, SeededState>;

/// A set whose members may come from outside.
pub type SeededSet<T> = hashbrown::HashSet<T, SeededState>;

/// Hashes with the seed of the process.
pub type SeededState = hashbrown::DefaultHashBuilder;

/// A place in a [`SeededMap`], taken or free.
pub type SeededEntry<'a, K, V> = hashbrown::hash_map::Entry<'a, K, V, SeededState>;
