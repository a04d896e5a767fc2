//! Computes the wait before a crashed worker is started again.

use std::time::Duration;

/// Each wait is longer than the one before by this factor, as pm2's `exp_backoff_restart_delay` has it.
const GROWTH: f64 = 1.5;
/// The part of the wait that chance adds or takes away, so that workers that fell together do not rise together.
const JITTER: f64 = 0.1;

/// Never no wait at all: what fails at once would be tried again at the same moment, for ever.
const SHORTEST: Duration = Duration::from_millis(1);

/// The wait before restart n: `min`·1.5ⁿ, at most `max`, give or take 10 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The wait before the first restart.
    pub min: Duration,
    /// The longest wait, before jitter.
    pub max: Duration,
}

impl Backoff {
    /// The wait before restart `n`, counted from 0. `chance` is between -1 and 1.
    pub fn delay(&self, n: u32, chance: f64) -> Duration {
        let grown = self.min.as_secs_f64() * GROWTH.powi(n.min(200) as i32);
        let capped = grown.min(self.max.as_secs_f64());
        Duration::from_secs_f64(capped * (1.0 + JITTER * chance.clamp(-1.0, 1.0))).max(SHORTEST)
    }
}

/// A source of chance that is the same for the same seed (xorshift64*, Vigna 2016), so that a history can be replayed.
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// A source that gives the same numbers for the same seed.
    pub fn new(seed: u64) -> Jitter {
        Jitter(seed | 1)
    }

    /// A number from -1 up to 1.
    pub fn sample(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        bits as f64 / (1u64 << 52) as f64 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: Backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(15) };

    #[test]
    fn it_grows_by_half_up_to_the_maximum() {
        let ms = |n| DEFAULT.delay(n, 0.0).as_millis();
        assert_eq!([ms(0), ms(1), ms(2), ms(3)], [100, 150, 225, 337]);
        assert_eq!([ms(13), ms(16), ms(u32::MAX)], [15_000, 15_000, 15_000]);
    }

    #[test]
    fn jitter_stays_within_ten_percent() {
        let mut jitter = Jitter::new(7);
        let waits: Vec<u128> = (0..1000).map(|_| DEFAULT.delay(20, jitter.sample()).as_millis()).collect();
        assert!(waits.iter().all(|ms| (13_500..=16_500).contains(ms)));
        assert!(waits.iter().max() > waits.iter().min());
    }

    #[test]
    fn a_wait_of_nothing_is_still_a_moment() {
        let none = Backoff { min: Duration::ZERO, max: Duration::ZERO };
        assert_eq!(none.delay(9, 1.0), SHORTEST);
    }
}
