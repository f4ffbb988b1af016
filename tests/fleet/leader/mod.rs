//! The leader on a real server with a real database, as the fleet sees it.

mod leaders;
mod presence;
mod scene;
mod trouble;
