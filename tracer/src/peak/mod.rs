//! The peak.
