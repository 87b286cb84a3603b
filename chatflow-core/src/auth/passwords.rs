//! Passwords: argon2id, as slow as it is meant to be, and never so many at once that they take the memory.

use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{Error as HashError, PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;

use crate::{Error, ErrorKind, Result};

/// The shortest password, in characters.
pub const SHORTEST_PASSWORD: usize = 8;

/// The longest password, in bytes.
pub const LONGEST_PASSWORD: usize = 1_024;

/// How long one waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// Those that may wait for their turn.
const WAITING: usize = 256;

const ORIGIN: &str = "passwords";

/// Hashes passwords and compares them, with the parameters that the crate recommends (argon2id, 19 MiB, 2 passes): one for each processor
/// at a time, on threads that may block. Cheap to clone; clones take turns.
#[derive(Debug, Clone)]
pub struct Passwords {
    turns: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        let turns = std::thread::available_parallelism().map_or(1, usize::from).min(8);
        Self { turns: Arc::new(Semaphore::new(turns)), places: Arc::new(Semaphore::new(turns + WAITING)) }
    }
}

impl Passwords {
    /// What an account keeps of `password`: a PHC string.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: it is shorter or longer than it may be; [`ErrorKind::Full`]: too many wait for their turn.
    pub async fn hash(&self, password: &str) -> Result<String> {
        if password.chars().count() < SHORTEST_PASSWORD {
            return Err(Error::new(ErrorKind::Invalid, ORIGIN, "a password has 8 characters at least"));
        }
        if password.len() > LONGEST_PASSWORD {
            return Err(Error::new(ErrorKind::Invalid, ORIGIN, "a password has 1,024 bytes at most"));
        }
        let password = password.to_owned();
        let hashed = self.in_turn(move || Argon2::default().hash_password(password.as_bytes())).await?;
        hashed.map(|hash: PasswordHash| hash.to_string()).map_err(|error| failed(&error))
    }

    /// Whether `password` is the one that `kept` was made of. Without `kept`, it is not, and takes as long to find out.
    ///
    /// # Cancel safety
    /// Work that was begun goes on to its end and keeps its turn until then.
    ///
    /// # Errors
    /// [`ErrorKind::Full`]: too many wait for their turn; [`ErrorKind::Corrupt`]: `kept` is no argon2 hash.
    pub async fn are_equal(&self, kept: Option<&str>, password: &str) -> Result<bool> {
        if password.len() > LONGEST_PASSWORD {
            return Ok(false);
        }
        let (kept, password) = (kept.map(str::to_owned), password.to_owned());
        let outcome = self.in_turn(move || compare(kept.as_deref(), password.as_bytes())).await?;
        match outcome {
            Ok(()) => Ok(true),
            Err(HashError::PasswordInvalid) => Ok(false),
            Err(error) => Err(failed(&error)),
        }
    }

    async fn in_turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let full = || Error::new(ErrorKind::Full, ORIGIN, "too many passwords wait to be looked at");
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| full())?;
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| full())?.map_err(|_| full())?;
        let done = tokio::task::spawn_blocking(move || {
            // Kept for as long as the memory is, whoever still waits.
            let _kept = (place, turn);
            work()
        });
        done.await.map_err(|error| Error::new(ErrorKind::Internal, ORIGIN, "a hash was not finished").with_source(error))
    }
}

fn compare(kept: Option<&str>, password: &[u8]) -> Result<(), HashError> {
    let Some(kept) = kept else {
        let hashed: Result<PasswordHash, _> = Argon2::default().hash_password_with_salt(password, b"nobody's salt!!!");
        return hashed.and(Err(HashError::PasswordInvalid));
    };
    Argon2::default().verify_password(password, &PasswordHash::new(kept)?)
}

fn failed(error: &HashError) -> Error {
    Error::new(ErrorKind::Corrupt, ORIGIN, "a password's hash can't be made or read").with_source(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_same_password_is_equal() {
        let passwords = Passwords::default();
        let kept = passwords.hash("correct horse\0").await.unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert_ne!(kept, passwords.hash("correct horse\0").await.unwrap(), "each has a salt of its own");
        assert!(passwords.are_equal(Some(&kept), "correct horse\0").await.unwrap());
        for other in ["", "correct horse", "Correct horse\0", &"x".repeat(LONGEST_PASSWORD), &"x".repeat(1 << 20)] {
            assert!(!passwords.are_equal(Some(&kept), other).await.unwrap(), "{} bytes", other.len());
            assert!(!passwords.are_equal(None, other).await.unwrap());
        }
        assert_eq!(passwords.are_equal(Some("plain"), "plain").await.unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[tokio::test]
    async fn lengths_are_bounded() {
        let passwords = Passwords::default();
        for bad in ["", "7 chars", &"x".repeat(LONGEST_PASSWORD + 1)] {
            assert_eq!(passwords.hash(bad).await.unwrap_err().kind(), ErrorKind::Invalid);
        }
        assert!(passwords.hash("漢漢漢漢漢漢漢漢").await.is_ok());
    }

    #[tokio::test]
    async fn whoever_finds_no_place_is_told_at_once() {
        let passwords = Passwords { turns: Arc::new(Semaphore::new(0)), places: Arc::new(Semaphore::new(1)) };
        let mut first = Box::pin(passwords.are_equal(None, "long enough"));
        assert!(futures::poll!(first.as_mut()).is_pending());
        assert_eq!(passwords.hash("long enough").await.unwrap_err().kind(), ErrorKind::Full);
        drop(first);
        assert_eq!(passwords.places.available_permits(), 1, "who goes gives the place back");
    }
}
