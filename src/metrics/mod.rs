//! Where numbers go: progress bars, JSONL, TensorBoard.
