//! Restricts user and host lookups of a static program to the C library.
//!
//! A static glibc still loads the plugins in `/etc/nsswitch.conf`, and these load the machine's own glibc.
//! Unless both glibc versions are identical, the lookup kills the process with a signal. So a static program
//! uses only the built-in sources: `/etc/passwd`, `/etc/group`, `/etc/hosts` and DNS.
//!
//! Limit: it does not find users and hosts that only a plugin knows (sssd, LDAP, mDNS).

#![cfg_attr(
    all(target_env = "gnu", target_feature = "crt-static"),
    expect(unsafe_code, reason = "glibc's way to choose who looks things up")
)]

/// Call this before any lookup, and before there is a second thread.
pub fn keep_to_what_is_built_in() {
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    built_in::choose();
}

#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
mod built_in {
    use std::ffi::{CStr, c_char, c_int};

    /// Databases and their sources. `initgroups` is the groups of a user.
    const CHOICE: [(&CStr, &CStr); 4] =
        [(c"passwd", c"files"), (c"group", c"files"), (c"initgroups", c"files"), (c"hosts", c"files dns")];

    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }

    pub(super) fn choose() {
        for (database, services) in CHOICE {
            // SAFETY: both are constant strings that end with a zero; nothing else runs yet. It fails
            // only for names it does not know, and then it changes nothing.
            unsafe { __nss_configure_lookup(database.as_ptr(), services.as_ptr()) };
        }
    }
}
