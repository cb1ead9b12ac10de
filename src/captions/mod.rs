//! Caption files: one format per file, all giving numbered captions.
