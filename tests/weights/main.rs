//! Weight files: what is written is read back, and every way a file can be wrong is named.

mod safetensors;
