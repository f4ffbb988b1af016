//! Jobs that wait for peers that are away: in a real JetStream, taken by real daemons.

mod cancelling;
mod crash;
mod everyday;
mod refusals;
mod scene;
mod secured;
mod servers;
