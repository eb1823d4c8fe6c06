//! See Cargo.toml's description; being written.
