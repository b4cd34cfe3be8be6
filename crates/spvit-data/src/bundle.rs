//! Small data sets for tests.
