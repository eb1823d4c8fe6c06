//! `docs/units.md`, made from the tables of fields.
