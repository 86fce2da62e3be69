//! The live set.
