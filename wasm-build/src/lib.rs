//! Build verbs.
