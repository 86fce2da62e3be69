//! Tables of real files against a naive twin, and of files made for one hazard each.

mod fixtures;
mod hostile;
mod naive;
mod real;
mod remembered;
