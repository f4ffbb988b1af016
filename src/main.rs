//! The front door of `d`: nothing is decided here.

use std::process::ExitCode;

fn main() -> ExitCode {
    peerbus::process::keep_to_what_is_built_in();
    // The same program, as a reaper of one job: it must not read settings or start a runtime.
    if std::env::args_os().nth(1).is_some_and(|verb| verb == "reaper") {
        return peerbus::process::reaper_main();
    }
    peerbus::cli::main()
}
