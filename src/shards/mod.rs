//! Webdataset shards: tar writer and reader, manifest.
