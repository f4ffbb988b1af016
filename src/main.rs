//! The front door of `d`: nothing is decided here.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|verb| verb == "reaper") {
        return peerbus::process::reaper_main();
    }
    ExitCode::SUCCESS
}
