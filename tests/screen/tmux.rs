//! The same against tmux.
