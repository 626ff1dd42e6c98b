//! Independent random streams from one seed.
//!
//! Every trace draws from a stream of its own, so its contents depend on the seed, its number and its start
//! time only, never on how many draws other traces made.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// What a stream is for; streams of different purposes never overlap.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub enum Purpose {
    Fleet = 1,
    Plan = 2,
    Arrivals = 3,
    Request = 4,
    Delivery = 5,
    Redelivery = 6,
}

/// The stream `index` of `purpose`; the four words fill the generator's 256-bit key.
pub fn stream(seed: u64, purpose: Purpose, index: u64) -> StdRng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
    key[16..24].copy_from_slice(&index.to_le_bytes());
    key[24..].copy_from_slice(b"aurora/1");
    StdRng::from_seed(key)
}
