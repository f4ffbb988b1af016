//! The front door of `d`: nothing is decided here.

use std::process::ExitCode;

fn main() -> ExitCode {
    peerbus::process::reset_inherited_signals();
    peerbus::process::keep_to_what_is_built_in();
    // The same program, watching over one job or looking something up for it: that must not read settings or start a large runtime.
    match std::env::args_os().nth(1).as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("reaper") => return peerbus::process::reaper_main(),
        Some("real-directory") => return peerbus::process::real_directory_main(),
        Some(peerbus::process::TERMINAL_SUPPORT) => return peerbus::process::terminal_support_main(),
        Some("shim") => return peerbus::shim::shim_main(),
        _ => {}
    }
    peerbus::cli::main()
}
