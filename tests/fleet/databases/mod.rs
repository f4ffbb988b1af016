//! The registry on every database it knows: the same cases on SQLite, MariaDB and PostgreSQL, each
//! the real one.

#[macro_use]
mod bench;

mod file;
mod older;
mod outages;
mod rights;
mod rows;
mod start;
