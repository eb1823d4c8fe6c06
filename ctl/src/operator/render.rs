//! What people see: aligned, in words, and never wider than their terminal.

pub mod history;
pub mod human;
pub mod images;
pub mod install;
pub mod stats;
pub mod status;
pub mod style;
pub mod table;
pub mod units;
pub mod update;
pub mod volumes;

pub use style::Style;
