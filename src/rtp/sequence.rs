//! (signatures to follow)
