//! Files compiled for one hazard each.
